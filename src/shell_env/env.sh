# Written by codex-pool and read by your shell: its `codex` goes first on PATH.
case "$PATH:" in
    @BIN@:*) ;;
    *) PATH=@BIN@:$PATH ;;
esac
export PATH

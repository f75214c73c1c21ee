# Written by codex-pool and read by your shell: the shim `codex` goes first on PATH, `codex-pool` last.
case ":$PATH:" in
    *:@TOOL_DIR@:*) ;;
    *) PATH=$PATH:@TOOL_DIR@ ;;
esac
case "$PATH:" in
    @SHIM_DIR@:*) ;;
    *) PATH=@SHIM_DIR@:$PATH ;;
esac
export PATH

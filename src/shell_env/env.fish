# Written by codex-pool and read by fish: its `codex` goes first on PATH.
test "$PATH[1]" = @BIN@; or set -gx PATH @BIN@ $PATH

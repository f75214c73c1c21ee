# Written by codex-pool and read by fish: the shim `codex` goes first on PATH, `codex-pool` last.
contains -- @TOOL_DIR@ $PATH; or set -gx PATH $PATH @TOOL_DIR@
test "$PATH[1]" = @SHIM_DIR@; or set -gx PATH @SHIM_DIR@ $PATH

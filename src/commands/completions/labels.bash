
# The first word after some verbs is an account: it is completed by the labels in the pool.
_codex_pool_with_labels() {
    _codex__pool "$@"
    local typed=${COMP_LINE:0:COMP_POINT} words current='' label i
    case $typed in *[[:blank:]]) ;; *) current=${typed##*[[:blank:]]} ;; esac
    read -ra words <<<"${typed%"$current"}"
    # `share` has verbs of its own.
    [ "${words[1]}" != share ] || words=("${words[@]:1}")
    case ${words[1]} in @VERBS@) ;; *) return 0 ;; esac
    case $current in -*) return 0 ;; esac
    for ((i = 2; i < ${#words[@]}; i++)); do
        case ${words[i]} in -*) ;; *) return 0 ;; esac
    done
    COMPREPLY=()
    while IFS= read -r label; do
        # bash begins a new word at `@` and `:`, too, and replaces only that.
        case $label in "$current"*) COMPREPLY+=("$(printf %q "${label#"${current%"$2"}"}")") ;; esac
    done < <(codex-pool __complete-refs 2>/dev/null)
}


# The first word after some verbs is an account: it is completed by the labels in the pool.
function __codex_pool_wants_label
    set -l words (commandline -opc)
    # `share` has verbs of its own.
    test "$words[2]" = share
    and set -e words[2]
    contains -- "$words[2]" $argv
    or return
    for word in $words[3..]
        string match -q -- '-*' $word
        or return
    end
end
complete -c codex-pool -n '__codex_pool_wants_label @VERBS@' -f -a '(codex-pool __complete-refs 2>/dev/null)'

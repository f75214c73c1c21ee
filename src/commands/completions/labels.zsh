# The first word after some verbs is an account: it is completed by the labels in the pool.
_codex-pool_labels() {
    local -a labels expl
    labels=(${(f)"$(codex-pool __complete-refs 2>/dev/null)"})
    _wanted accounts expl account compadd -a labels
}

#compdef vsctl
# Completion of vsctl lines for zsh; printed by 'vsctl completion zsh'.

_vsctl() {
    local -a typed lines whole open
    local line
    typed=("${(@Q)words[2,CURRENT]}")
    lines=("${(@f)$(${(Q)words[1]} __complete zsh "${typed[@]}" 2>/dev/null)}")
    if [[ $lines[1] == :files ]]; then
        _files
        return
    fi
    for line in $lines; do
        case $line in
            .*) whole+=("${line#.}") ;;
            +*) open+=("${line#+}") ;;
        esac
    done
    _describe -t words word whole -- open -S ''
}

if [[ $funcstack[1] == _vsctl ]]; then
    _vsctl "$@"
else
    compdef _vsctl vsctl
fi

# Completion of vsctl lines for bash; printed by 'vsctl completion bash'.

_vsctl() {
    local IFS=$'\n'
    COMPREPLY=($("$1" __complete bash "$1" "${COMP_LINE:0:COMP_POINT}" "$COMP_WORDBREAKS" 2>/dev/null))
    if [[ ${COMPREPLY[0]-} == :files ]]; then
        COMPREPLY=()
        compopt -o default
    else
        # Blanks are among the candidates, where nothing more belongs to the word.
        compopt -o nospace
    fi
}

complete -F _vsctl vsctl

# Completion of vsctl lines for fish; printed by 'vsctl completion fish'.

function __vsctl_candidates
    set -l words (commandline -opc) (commandline -ct)
    set -l lines (command $words[1] __complete fish $words[2..-1] 2>/dev/null)
    if test "$lines[1]" = :files
        __fish_complete_path (commandline -ct)
    else
        printf '%s\n' $lines
    end
end

complete -c vsctl -f -a '(__vsctl_candidates)'

# Completion of mpengine for fish.

function __mpengine_pids
    mpengine ps 2>/dev/null | awk '$1 ~ /^[0-9]+$/ { print $1 "\t" $NF }'
end

set -l verbs ps top dump trace profile worker dead acl
set -l first "not __fish_seen_subcommand_from $verbs"

complete -c mpengine -f -n "__fish_seen_subcommand_from $verbs"
complete -c mpengine -n __fish_use_subcommand -a ps -d 'list the programs that run'
complete -c mpengine -n __fish_use_subcommand -a top -d 'show a program, live'
complete -c mpengine -n __fish_use_subcommand -a dump -d 'show what a program does and waits for'
complete -c mpengine -n __fish_use_subcommand -a trace -d 'record what the tasks of a program do'
complete -c mpengine -n __fish_use_subcommand -a profile -d 'sample where a program spends its time'
complete -c mpengine -n __fish_use_subcommand -a worker -d 'run tasks of remote pools'
complete -c mpengine -n __fish_use_subcommand -a dead -d 'tasks that ended their workers'
complete -c mpengine -n __fish_use_subcommand -a acl -d 'print the command that makes a user of the server'

complete -c mpengine -n $first -s e -x -d 'run code'
complete -c mpengine -n $first -s i -d 'interactive mode after the script'
complete -c mpengine -n $first -s l -x -d 'require a module'
complete -c mpengine -n $first -s W -d 'turn warnings on'
complete -c mpengine -n $first -s E -d 'ignore the environment variables of Lua'
complete -c mpengine -n $first -l trace -r -F -d 'record the run in a file'
complete -c mpengine -n $first -s v -l version -d 'show the version'
complete -c mpengine -s h -l help -d 'show the options'

complete -c mpengine -n '__fish_seen_subcommand_from dump' -l json -d 'write one JSON object'
complete -c mpengine -n '__fish_seen_subcommand_from top dump trace profile' -a '(__mpengine_pids)'
complete -c mpengine -n '__fish_seen_subcommand_from profile' -s o -r -F -d 'file, .svg or .folded'
complete -c mpengine -n '__fish_seen_subcommand_from trace' -s o -r -F -d 'file, .json or .html'
complete -c mpengine -n '__fish_seen_subcommand_from trace profile' -l seconds -x -d 'how long'
complete -c mpengine -n '__fish_seen_subcommand_from top' -l interval -x -d 'seconds between frames'
complete -c mpengine -n '__fish_seen_subcommand_from top' -s n -x -d 'how many frames'
complete -c mpengine -n '__fish_seen_subcommand_from worker' -s j -x -d 'processes'
complete -c mpengine -n '__fish_seen_subcommand_from worker' -l allow -x -d 'names of functions that may be run'
complete -c mpengine -n '__fish_seen_subcommand_from worker' -l key-file -r -F -d 'the key that signs tasks'
complete -c mpengine -n '__fish_seen_subcommand_from worker' -l lease -x -d 'seconds until a silent worker is dead'
complete -c mpengine -n '__fish_seen_subcommand_from worker' -l grace -x -d 'seconds for tasks after SIGTERM'
complete -c mpengine -n '__fish_seen_subcommand_from worker dead' -l queue -x -d 'a queue'
complete -c mpengine -n '__fish_seen_subcommand_from worker dead top' -l namespace -x -d 'of the manager'
complete -c mpengine -n '__fish_seen_subcommand_from worker dead top' -l ca -r -F -d 'certificates'
complete -c mpengine -n '__fish_seen_subcommand_from dead' -a 'list retry drop'

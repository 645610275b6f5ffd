# Completion of mpengine for bash.

_mpengine_pids() {
    mpengine ps 2>/dev/null | awk '$1 ~ /^[0-9]+$/ { print $1 }'
}

_mpengine_files() {
    local IFS=$'\n'
    compopt -o filenames 2>/dev/null
    COMPREPLY=($(compgen -f ${1:+-X "$1"} -- "$current") $(compgen -d -- "$current"))
}

_mpengine_words() {
    COMPREPLY=($(compgen -W "$*" -- "$current"))
}

_mpengine() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
    local verb=${COMP_WORDS[1]} verbs='ps top dump trace profile worker dead acl'
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        case $current in
            -*) _mpengine_words -e -i -l -W -E --trace= - -- -v --version -h --help ;;
            *)
                _mpengine_files '!*.lua'
                COMPREPLY+=($(compgen -W "$verbs" -- "$current"))
                ;;
        esac
        return
    fi
    case $previous in
        --key-file | --ca | -o) _mpengine_files ''; return ;;
        -j | --queue | --allow | --namespace | --lease | --grace | --seconds | --interval | -n | -e | -l) return ;;
    esac
    case $verb in
        ps) _mpengine_words -h --help ;;
        dump) _mpengine_words --json -h --help $(_mpengine_pids) ;;
        top) _mpengine_words --interval -n --namespace --ca -h --help $(_mpengine_pids) ;;
        trace | profile) _mpengine_words -o --seconds -h --help $(_mpengine_pids) ;;
        worker)
            _mpengine_words -j --queue --allow --key-file --namespace --ca --lease --grace -h --help
            ;;
        dead)
            if [ "$COMP_CWORD" -eq 2 ]; then
                _mpengine_words list retry drop -h --help
            else
                _mpengine_words --queue --namespace --ca -h --help
            fi
            ;;
        acl) _mpengine_words -h --help ;;
        -*) case $current in
            -*) _mpengine_words -e -i -l -W -E --trace= - -- -v --version -h --help ;;
            *) _mpengine_files '!*.lua' ;;
            esac ;;
        *) _mpengine_files '' ;;
    esac
}

complete -F _mpengine mpengine

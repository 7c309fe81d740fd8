# Completion of PROGRAM for bash. Load it with: source <(PROGRAM completion bash)

_PROGRAM_complete() {
    # Take the words up to the cursor. bash also splits them at the characters of COMP_WORDBREAKS, such
    # as '=' and ':'; pieces that no space separates are one word.
    local rest=${COMP_LINE-${COMP_WORDS[*]}} piece at last=-1
    rest=${rest:0:${COMP_POINT-${#rest}}}
    local -a words=()
    for ((at = 0; at <= COMP_CWORD; at++)); do
        piece=${COMP_WORDS[at]-}
        if ((last < 0)) || [[ $rest == [[:space:]]* ]]; then
            words[++last]=
            rest=${rest#"${rest%%[![:space:]]*}"}
        fi
        piece=${piece:0:${#rest}}
        words[last]+=$piece
        rest=${rest#"$piece"}
    done

    # A value behind '=' is a word of its own to bash, unless '=' does not split words.
    local typed=${words[last]} before=
    if [[ $typed == -*=* ]]; then
        [[ $COMP_WORDBREAKS == *=* ]] || before=${typed%%=*}=
        typed=${typed#*=}
    fi

    local program=${words[0]/#\~/$HOME} directive=0 line
    type -P -- "$program" >/dev/null || program=PROGRAM
    COMPREPLY=()
    while IFS= read -r line; do
        if [[ $line == :* ]]; then
            directive=${line#:}
        elif [[ $line == "$typed"* ]]; then
            COMPREPLY+=("$before$line")
        fi
    done < <("$program" __completeNoDesc "${words[@]:1}" 2>/dev/null)

    if ((directive & 16)); then
        compopt -o filenames 2>/dev/null
        while IFS= read -r line; do
            COMPREPLY+=("$before$line")
        done < <(compgen -d -- "$typed")
    elif ((directive & 4)); then
        compopt +o default 2>/dev/null
    fi
    return 0
}

complete -o default -F _PROGRAM_complete PROGRAM

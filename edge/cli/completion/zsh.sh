#compdef PROGRAM
# Completion of PROGRAM for zsh. Load it with: source <(PROGRAM completion zsh)

_PROGRAM() {
    local program=${~${(Q)words[1]}} directive=0 line name about
    local -a found
    whence -p -- "$program" >/dev/null || program=PROGRAM
    for line in "${(@f)$("$program" __complete "${(@Q)words[2,CURRENT-1]}" "$PREFIX" 2>/dev/null)}"; do
        if [[ $line == :* ]]; then
            directive=${line#:}
        elif [[ $line == *$'\t'* ]]; then
            name=${line%%$'\t'*} about=${line#*$'\t'}
            found+=("${name//:/\\:}:$about")
        elif [[ -n $line ]]; then
            found+=("${line//:/\\:}")
        fi
    done

    # Behind '=' the value alone is completed.
    compset -P 1 '-*='
    if (( directive & 16 )); then
        _path_files -/
    elif (( $#found )); then
        _describe 'PROGRAM' found
    elif (( ! (directive & 4) )); then
        _files
    fi
}

# zsh runs the file as the function itself when it finds it in fpath.
if [[ $funcstack[1] == _PROGRAM ]]; then
    _PROGRAM "$@"
else
    compdef _PROGRAM PROGRAM
fi

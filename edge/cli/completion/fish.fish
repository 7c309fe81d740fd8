# Completion of PROGRAM for fish. Load it with: PROGRAM completion fish | source

function __PROGRAM_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l directive 0
    set -l found

    # Behind '=' the value alone is completed, but fish replaces the whole word.
    set -l before ''
    set -l typed "$current"
    if string match -qr -- '^-[^=]*=' "$current"
        set before (string replace -r -- '=.*' '=' "$current")
        set typed (string replace -r -- '^[^=]*=' '' "$current")
    end

    for line in ($words[1] __complete $words[2..-1] "$current" 2>/dev/null)
        if string match -q -- ':*' $line
            set directive (string sub -s 2 -- $line)
        else
            set -a found $line
        end
    end

    if test "$directive" = 16
        set found (__fish_complete_directories "$typed")
    else if test "$directive" = 0 -a (count $found) -eq 0
        set found (__fish_complete_path "$typed")
    end
    for line in $found
        printf '%s%s\n' $before $line
    end
end

complete -c PROGRAM -e
complete -c PROGRAM -f -a '(__PROGRAM_complete)'

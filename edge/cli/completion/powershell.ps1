# Completion of PROGRAM for PowerShell. Load it with:
# PROGRAM completion powershell | Out-String | Invoke-Expression

Register-ArgumentCompleter -Native -CommandName 'PROGRAM' -ScriptBlock {
    param($WordToComplete, $CommandAst, $CursorPosition)

    $before = @($CommandAst.CommandElements | Where-Object { $_.Extent.EndOffset -lt $CursorPosition } |
            ForEach-Object { "$_" })
    $program = $before[0]
    $words = @($before | Select-Object -Skip 1)

    # Older versions drop an argument that is empty and not quoted.
    $current = $WordToComplete
    if ($current -eq '' -and $PSNativeCommandArgumentPassing -in @($null, 'Legacy')) {
        $current = '""'
    }

    # Behind '=' the value alone is completed, but PowerShell replaces the whole word.
    $prefix = ''
    if ($WordToComplete -match '^(-[^=]*=)') {
        $prefix = $Matches[1]
    }

    $directive = 0
    $found = @()
    foreach ($line in @(& $program __complete @words $current 2>$null)) {
        if ($line.StartsWith(':')) {
            $directive = [int]$line.Substring(1)
        } else {
            $found += $line
        }
    }

    foreach ($line in $found) {
        $name, $about = $line -split "`t", 2
        if (-not $about) {
            $about = $name
        }
        [System.Management.Automation.CompletionResult]::new(
            $prefix + $name, $name, 'ParameterValue', $about)
    }
    # Without any result PowerShell offers files.
    if ($found.Count -eq 0 -and ($directive -band 4) -ne 0) {
        ''
    }
}

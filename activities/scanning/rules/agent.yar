/* Patterns that are the same in every language. Category "block" blocks, "review" asks for review. */

rule reverse_shell
{
    meta:
        category = "block"
        description = "reverse shell"
    strings:
        $bash_tcp = /\/dev\/tcp\/[0-9A-Za-z_.${}-]{3,64}\/[0-9${}A-Za-z_]{1,12}/
        $socket_dup = /os\.dup2\s*\(\s*(s|sock|socket|conn|client|c|so|sk)\.fileno\(\)\s*,\s*\w+\s*\)/
        $node_pipe = /\.pipe\(\s*\w+\.stdin\s*\)[^\n]{0,120}\.stdout\.pipe\(/
    condition:
        any of them
}

rule miner
{
    meta:
        category = "block"
        description = "cryptocurrency miner"
    strings:
        $stratum = /stratum\+(tcp|ssl):\/\//
        $coinhive = "CoinHive.Anonymous"
        $argument = "--donate-level"
    condition:
        any of them
}

rule packed_executable
{
    meta:
        category = "block"
        description = "packed executable"
    strings:
        $upx = "UPX!"
        $elf = { 7f 45 4c 46 }
        $mz = "MZ"
    condition:
        ($elf at 0 or $mz at 0) and $upx in (0..4096)
}

rule shell_in_binary
{
    meta:
        category = "review"
        description = "a binary that downloads and runs commands"
    strings:
        $elf = { 7f 45 4c 46 }
        $mz = "MZ"
        $pipe = /(curl|wget) [^\x00\n]{4,200}\| ?(ba)?sh/
        $chmod = /chmod (\+x|7[0-7][0-7]) \/tmp\//
        $tcp = "/dev/tcp/"
    condition:
        ($elf at 0 or $mz at 0) and any of ($pipe, $chmod, $tcp)
}

rule known_obfuscator
{
    meta:
        category = "block"
        description = "output of a known obfuscator"
    strings:
        $pyarmor = "__pyarmor__"
        $pyarmor_import = /from\s+pytransform\s+import\s+pyarmor_runtime/
        $packer = /eval\(function\(p,a,c,k,e,[rd]\)/
        $hyperion = /class\s+Hyperion|builtins\.exec\(zlib/
        $blank = /__import__\(.{0,4}(zlib|base64|marshal).{0,4}\)\.\w+\(__import__\(/
        $jjencode = /\$=~\[\];\$=\{___:\+\+\$/
        $kramer = /class\s+Kramer\s*\(\)/
    condition:
        any of them
}

rule credential_theft
{
    meta:
        category = "block"
        description = "collects browser or wallet data"
    strings:
        $login = "Login Data"
        $leveldb = "Local Storage/leveldb"
        $leveldb_windows = "Local Storage\\\\leveldb"
        $metamask = "nkbihfbeogaeaoehlefnkodbefgpgknn"
        $dpapi = "CryptUnprotectData"
        $exodus = "Exodus/exodus.wallet"
        $exodus_windows = "exodus.wallet"
        $discord = /dQw4w9WgXcQ:/
        $state = "Local State"
    condition:
        2 of them
}

rule clipboard_hijack
{
    meta:
        category = "review"
        description = "watches the clipboard for wallet addresses"
    strings:
        $clipboard = /pyperclip|clipboardy|GetClipboardData|clipboard\.(read|write)/
        $address = /\[13\]\[a-km-zA-HJ-NP-Z1-9\]|0x\[a-fA-F0-9\]\{40\}|bc1\[/
    condition:
        all of them
}

rule python_startup_persistence
{
    meta:
        category = "review"
        description = "writes to a start-up file"
    strings:
        $open = /(open|writeFileSync|appendFileSync|appendFile|writeFile)\s*\([^)\n]{0,120}(\.bashrc|\.profile|\.zshrc|authorized_keys|crontab|usercustomize|sitecustomize|\/etc\/cron|LaunchAgents|\.pth['"])/
    condition:
        $open
}

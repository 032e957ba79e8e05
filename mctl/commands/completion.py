"""mctl completion: the scripts with which shells complete."""

from typing import Annotated, Literal

import typer

# Bash splits words at : and =, as in 127.0.0.1:50051 and --for=ready. The line is
# split again at blanks only, and what bash keeps of the word is cut off the answers.
_BASH = r"""
_mctl_completion() {
    local line="${COMP_LINE:0:COMP_POINT}" kept answer
    local -a words
    read -ra words <<< "$line"
    [[ "$line" == *[[:space:]] ]] && words+=("")
    local current="${words[-1]}"
    kept="${current%"${current##*[:=]}"}"
    [[ "$current" == --*=* ]] && words=("${words[@]:0:${#words[@]}-1}" "${current%%=*}" "${current#*=}")
    COMPREPLY=()
    while IFS= read -r answer; do
        [[ -n "$answer" ]] || continue
        [[ "$current" == --*=* ]] && answer="${current%%=*}=$answer"
        COMPREPLY+=("${answer#"$kept"}")
    done < <(COMP_WORDS="$(printf '%s\n' "${words[@]}")" COMP_CWORD=$((${#words[@]} - 1)) \
        _MCTL_COMPLETE=complete_bash "${words[0]}" 2>/dev/null)
}
complete -o default -F _mctl_completion mctl
"""

_ZSH = r"""
#compdef mctl
_mctl_completion() {
    [[ "${words[CURRENT]}" == --*=* ]] && compset -P '*='
    eval "$(_TYPER_COMPLETE_ARGS="${words[1,$CURRENT]}" _MCTL_COMPLETE=complete_zsh "${words[1]}" 2>/dev/null)"
}
compdef _mctl_completion mctl
"""

_FISH = r"""
function __mctl_complete
    env _MCTL_COMPLETE=complete_fish _TYPER_COMPLETE_FISH_ACTION=$argv[1] \
        _TYPER_COMPLETE_ARGS=(commandline -cp) (commandline -opc)[1] 2>/dev/null
end
function __mctl_answers
    string replace -r '^' -- (string match -r -- '^--[^=]+=' (commandline -ct); or echo) (__mctl_complete get-args)
end
complete --command mctl --no-files --condition "__mctl_complete is-args" --arguments "(__mctl_answers)"
"""

_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def completion(shell: Annotated[Literal["bash", "zsh", "fish"], typer.Argument(help="The shell.")]) -> None:
    """Print the completion script of a shell.

    For this shell: source <(mctl completion bash). For all: add that line to ~/.bashrc or ~/.zshrc (after compinit), or
    write mctl completion fish to ~/.config/fish/completions/mctl.fish.
    """
    typer.echo(_SCRIPTS[shell].strip())

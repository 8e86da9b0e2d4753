// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// askCompletion is the last argument when a shell asks for words.
const askCompletion = "--generate-bash-completion"

// The scripts ask the program itself, which prints the words that fit.
var completionScripts = map[string]string{
	"bash": `# bash completion for stackhop: source <(stackhop completion bash)
_stackhop() {
  local cur="${COMP_WORDS[COMP_CWORD]}"
  local words=("${COMP_WORDS[@]:0:COMP_CWORD}")
  [[ "$cur" == -* ]] && words+=("$cur")
  COMPREPLY=($(compgen -W "$("${words[@]}" --generate-bash-completion 2>/dev/null)" -- "$cur"))
}
complete -o bashdefault -o default -F _stackhop stackhop
`,
	"zsh": `#compdef stackhop
# zsh completion for stackhop: source <(stackhop completion zsh)
_stackhop() {
  local -a ask opts
  ask=("${(@)words[1,CURRENT-1]}")
  [[ "${words[CURRENT]}" == -* ]] && ask+=("${words[CURRENT]}")
  opts=("${(@f)$("${ask[@]}" --generate-bash-completion 2>/dev/null)}")
  if [[ -n "${opts[1]}" ]]; then
    compadd -- "${opts[@]}"
  else
    _files
  fi
}
compdef _stackhop stackhop
`,
	"fish": `# fish completion for stackhop: stackhop completion fish | source
function __stackhop_words
  set -l ask (commandline -opc)
  set -l cur (commandline -ct)
  string match -q -- '-*' $cur; and set ask $ask $cur
  $ask --generate-bash-completion 2>/dev/null
end
complete -c stackhop -a '(__stackhop_words)'
`,
}

var shells = []string{"bash", "zsh", "fish"}

func (a *app) completionCommand() *cli.Command {
	return &cli.Command{
		Name:               "completion",
		Usage:              "a script that completes words, for bash, zsh or fish",
		ArgsUsage:          "bash|zsh|fish",
		CustomHelpTemplate: completionHelp,
		Action:             a.completion,
		BashComplete: func(c *cli.Context) {
			_, _ = io.WriteString(c.App.Writer, strings.Join(shells, "\n")+"\n")
		},
	}
}

func (a *app) completion(c *cli.Context) error {
	shell := c.Args().First()
	if c.NArg() != 1 || !slices.Contains(shells, shell) {
		return fmt.Errorf("completion needs a shell%s\n  %s completion bash|zsh|fish", didYouMean(shell, shells), a.name)
	}
	_, err := io.WriteString(a.sys.stdout, completionScripts[shell])
	return err
}

// kubectlComplete is the program that kubectl runs to complete the words of the
// plugin: a symbolic link to this one.
const kubectlComplete = "kubectl_complete-stackhop"

// completeForKubectl prints the words that fit behind "kubectl stackhop" as
// kubectl wants them. The last word is the one to complete.
func completeForKubectl(sys *system, words []string) int {
	args, last := []string{"kubectl-stackhop"}, ""
	if n := len(words); n > 0 {
		args, last = append(args, words[:n-1]...), words[n-1]
	}
	if strings.HasPrefix(last, "-") {
		args = append(args, last)
	}
	status := run(sys, append(args, askCompletion))
	// The names of files where we know no words: cobra's directive 0.
	_, _ = fmt.Fprintln(sys.stdout, ":0")
	return status
}

// completeCommands prints the commands.
func completeCommands(c *cli.Context) {
	for _, cmd := range c.App.Commands {
		_, _ = fmt.Fprintln(c.App.Writer, cmd.Name)
	}
}

// completeFlags prints the flags of a command. The other words that may follow
// are addresses and filter expressions, which nobody can complete.
func completeFlags(cmd *cli.Command) cli.BashCompleteFunc {
	return func(c *cli.Context) {
		for _, f := range cmd.Flags {
			name := f.Names()[0]
			_, _ = fmt.Fprintln(c.App.Writer, "--"+name)
		}
	}
}

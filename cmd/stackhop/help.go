// SPDX-License-Identifier: Apache-2.0

package main

// Help texts. They begin with what one would type, since that is what most
// people look for in them.

const appHelp = `{{.HelpName}}: {{.Usage}}

EXAMPLES:
   {{.HelpName}} trace --with 10.0.0.7               what happens to the packets of one address
   {{.HelpName}} trace --failed 'tcp port 80'        only what did not arrive
   {{.HelpName}} doctor                              what is missing to run here

COMMANDS:{{template "visibleCommandCategoryTemplate" .}}

   {{.HelpName}} COMMAND --help explains a command.

OPTIONS:{{template "visibleFlagTemplate" .}}
`

const commandHead = `{{.HelpName}}: {{.Usage}}

EXAMPLES:
`

const commandTail = `
USAGE:
   {{.HelpName}} [options]{{with .ArgsUsage}} {{.}}{{end}}

OPTIONS:
{{- if .VisibleFlagCategories}}{{template "visibleFlagCategoryTemplate" .}}
   --help, -h  show help
{{else}}{{template "visibleFlagTemplate" .}}
{{end}}`

const shortHelp = `{{.HelpName}}: {{.Usage}}

USAGE:
   {{.HelpName}}
`

const traceHelp = commandHead + `   # everything to and from one address, and what becomes of it behind NAT
   {{.HelpName}} --with 172.23.96.23

   # one client and one service; the addresses may be those before or behind NAT
   {{.HelpName}} --from 172.23.96.23 --to 8.219.164.113:80

   # as with tcpdump; flags may stand before or behind the expression
   {{.HelpName}} 'tcp port 80 and host 172.23.96.23' -o tree

   # why does this fail? Trace while a command runs, and stop when it has ended
   {{.HelpName}} --failed --to :80 -- curl -s http://8.219.164.113/

   # by name, with a file that says which address is whose
   {{.HelpName}} --names names.json --from pod/default/centos --to svc/default/nginx1:80

   # for scripts: JSON lines, the first 100 traversals, at most 30 seconds
   {{.HelpName}} -o json --count 100 --for 30s --with 172.23.96.0/26
` + commandTail + `
TARGETS (T):
   IP, IP:PORT, [IPv6]:PORT, CIDR, :PORT
   pod/[NS/]NAME, svc/[NS/]NAME[:PORT], node/NAME    by the names file
   netns/NAME, netns/INODE                           the addresses that a network namespace has now
   Repeated, or separated by commas: any of them. What different flags and the expression say must all hold.
   A packet that matches anywhere on its way is followed everywhere, and so is its connection, in both directions
   and through NAT.

PCAP-FILTER:
   An expression as for tcpdump. It is looked at from the network header on: there is no link layer in it.

COMMAND:
   It starts once everything is attached, and the trace ends when it has ended and its packets have settled. Its
   standard output goes to standard error, so that standard output has nothing but results.

NAMES FILE:
   {"netns":[{"name":"n1","kind":"node"},{"name":"centos","kind":"pod","node":"n1","pod":"default/centos"}],
    "addresses":[{"ip":"192.168.13.23","service":"default/nginx1"},{"ip":"172.23.96.23","pod":"default/centos"}]}

EXIT STATUS:
   0 done, 1 wrong usage or system error. With --exit-status also 2 events were lost, 3 a traversal was terminated,
   4 nothing matched; the smallest of them that holds.
`

const hooksHelp = commandHead + `   # which hooks this kernel has, and how each is attached
   {{.HelpName}}

   # which of them fire while a command runs
   {{.HelpName}} --count -- ping -c 3 10.0.0.7
` + commandTail

const doctorHelp = commandHead + `   # can I trace here? Exit status 0: yes, perhaps with --hooks tracepoints only; 1: no
   {{.HelpName}}
` + commandTail

const completionHelp = commandHead + `   source <(stackhop completion bash)
   source <(stackhop completion zsh)
   stackhop completion fish | source

   # for kubectl, where kubectl-stackhop is on the PATH
   ln -s kubectl-stackhop "$(dirname "$(command -v kubectl-stackhop)")/kubectl_complete-stackhop"

USAGE:
   {{.HelpName}} {{.ArgsUsage}}
`

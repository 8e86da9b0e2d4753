// SPDX-License-Identifier: Apache-2.0

package main

// Help texts. They begin with what one would type, since that is what most
// people look for in them.

const appHelp = `{{.HelpName}}: {{.Usage}}

EXAMPLES:
   {{.HelpName}} trace --with 10.0.0.7               what happens to the packets of one address
   {{.HelpName}} trace --failed 'tcp port 80'        only what did not arrive
   {{.HelpName}} explain no-destination              what a reason means, and what to check next
   {{.HelpName}} record -w n1.hop --with 10.0.0.7    for the ticket; replay n1.hop shows it anywhere
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
   {{.HelpName}} --failed --explain --to :80 -- curl -s http://8.219.164.113/

   # by name; a pod that restarts and endpoints that change are followed
   {{.HelpName}} --from pod/shop/web --to svc/shop/cart:80

   # where there is no Kubernetes: a file says which address is whose
   {{.HelpName}} --names names.json --from pod/default/centos --to svc/default/nginx1:80

   # for scripts: JSON lines, the first 100 traversals, at most 30 seconds
   {{.HelpName}} -o json --count 100 --for 30s --with 172.23.96.0/26
` + commandTail + `
TARGETS (T):
   IP, IP:PORT, [IPv6]:PORT, CIDR, :PORT
   pod/[NS/]NAME, svc/[NS/]NAME[:PORT], node/NAME    by the names file, the API server or the container runtime;
                                                     a service is its own addresses, node ports and endpoints
   netns/NAME, netns/INODE                           the addresses that a network namespace has now
   Repeated, or separated by commas: any of them. What different flags and the expression say must all hold.
   A packet that matches anywhere on its way is followed everywhere, and so is its connection, in both directions
   and through NAT.

PCAP-FILTER:
   An expression as for tcpdump. It is looked at from the network header on: there is no link layer in it.

COMMAND:
   It starts once everything is attached, and the trace ends when it has ended and its packets have settled. Its
   standard output goes to standard error, so that standard output has nothing but results.

NAMES:
   Pods, services and nodes are named by the API server (a kubeconfig, or the account of the pod that this runs in)
   and the container runtime, whichever there is. Only a name on the command line is waited for, five seconds at most,
   and the loss of one ends nothing: its names are marked "perhaps no longer". The names file goes before them:
   {"netns":[{"name":"n1","kind":"node"},{"name":"centos","kind":"pod","node":"n1","pod":"default/centos"}],
    "addresses":[{"ip":"192.168.13.23","service":"default/nginx1"},{"ip":"172.23.96.23","pod":"default/centos"}]}

PRIVILEGE:
   Once everything is attached, capabilities are given up on all threads. --keep-caps late keeps CAP_NET_ADMIN,
   CAP_NET_RAW, CAP_SYS_ADMIN, CAP_BPF, CAP_PERFMON, CAP_SYSLOG, CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH, for devices,
   namespaces, modules, rules and processes that come later; CAP_KILL with COMMAND; and for files that are made later
   (--ring, --ready-file) CAP_CHOWN under sudo, CAP_DAC_OVERRIDE and CAP_FOWNER in another user's directory. With none
   the node is taken to be as it was at the start, and rules are not read; below Linux 5.19 CAP_BPF stays. COMMAND has
   what you have.

SIGNALS:
   SIGINT (Ctrl-C) and SIGTERM end the trace with a summary, a second one at once. SIGUSR1 prints what was counted and
   lost so far.

EXIT STATUS:
   0 done, 1 wrong usage or system error. With --exit-status also 2 events were lost or packets shed for want of room,
   3 a traversal was terminated, 4 nothing matched; the smallest of them that holds.
`

const recordHelp = commandHead + `   # for the ticket: one client and one service, until Ctrl-C
   {{.HelpName}} -w n1.hop --from 172.23.96.23 --to 8.219.164.113:80

   # the same without anything that identifies the cluster; the key gives the same pseudonyms on each node
   {{.HelpName}} -w n1.hop --redact=ticket.key --with 172.23.96.23

   # what happens once a day: the last 10 files of 64 MiB, or only 10 s around what fails
   {{.HelpName}} -w /var/tmp/n1.hop --ring 10x64M --with 172.23.96.0/26
   {{.HelpName}} -w n1.hop --on-failure --max-bytes 500M --with 172.23.96.0/26

   # while a command runs, and shown as well
   {{.HelpName}} -w n1.hop --print --to :80 -- curl -s http://8.219.164.113/
` + commandTail + `
   Targets, filters, COMMAND, the names file, --keep-caps and signals are those of trace.

WHAT IS IN THE FILE:
   Events with the packets' headers (payload only with --snaplen), names of namespaces, devices, processes, pods,
   services and nodes, labels of pods and endpoints of services, IPVS services, settings and conntrack entries of what
   was seen, rules that dropped or masqueraded it, what was lost, and the command line. It belongs to you alone
   (mode 0600). At most a second is lost if the recorder is killed or the disk is full.
   'replay' shows it again, 'report' makes a page of it, 'export' a file for Wireshark, 'redact' removes identities.
`

const replayHelp = commandHead + `   # what trace would have shown
   {{.HelpName}} n1.hop

   # two nodes become one picture: 4 stacks from pod to pod
   {{.HelpName}} n1.hop n2.hop

   # what went wrong, with all hooks; or an overview of paths and times
   {{.HelpName}} --failed n1.hop -o tree
   {{.HelpName}} n1.hop -o summary

   # a part of it
   {{.HelpName}} n1.hop --since +10s --until +20s 'tcp port 80 and host 172.23.96.23'
` + commandTail + `
   No root and no kernel features are needed. Files of one run (record --ring) are put together, those of different
   nodes are joined packet by packet; their clocks may differ.

EXIT STATUS:
   0 done, 1 wrong usage, or a file is damaged: what is whole of it is shown before. With --exit-status as trace.
`

const reportHelp = commandHead + `   {{.HelpName}} n1.hop n2.hop -o ticket.html
` + commandTail + `
   One file that needs no network: opened from disk, sent by mail, printed.
`

const exportHelp = commandHead + `   {{.HelpName}} n1.hop -o n1.pcapng
   tshark -r n1.pcapng -Y 'frame.comment contains "terminated in IPVS"'
` + commandTail + `
   One interface for each namespace and device, one packet for each time that a device had it. Its comment says what
   became of it. Without --snaplen a recording has headers only: lengths are right, payload is missing.
`

const redactHelp = commandHead + `   # two nodes, one key: the pseudonyms agree, and the files can still be merged
   {{.HelpName}} n1.hop -o n1.redacted.hop --key ticket.key
   {{.HelpName}} n2.hop -o n2.redacted.hop --key ticket.key
` + commandTail + `
   Addresses keep their common prefixes, names become words. Keep the key to yourself: with it the pseudonyms can be
   computed again. Without --key a key is made and forgotten.
`

const hooksHelp = commandHead + `   # which hooks this kernel has, and how each is attached
   {{.HelpName}}

   # which of them fire while a command runs
   {{.HelpName}} --count -- ping -c 3 10.0.0.7
` + commandTail

const explainHelp = commandHead + `   # all findings, in the order of a packet's way
   {{.HelpName}}

   # what "reason": "no-destination" means, and what to do
   {{.HelpName}} no-destination
` + commandTail + `
   What a line says behind "terminated in" is a finding only where its evidence was seen; otherwise the line has the
   function that dropped the packet, and the kernel's own reason. trace, record --print and replay write the chain of
   evidence of each packet with --explain.
`

const topologyHelp = commandHead + `   # the node's namespaces with their devices, routes and IPVS services, as a tree
   {{.HelpName}}

   # a drawing for the ticket, without further tools; or a graph for Graphviz
   {{.HelpName}} -o svg >node.svg
   {{.HelpName}} -o dot | dot -Tpdf >node.pdf

   # services without a destination
   {{.HelpName}} -o json | jq -c '.namespaces[].services[] | select(.destinations == [])'
` + commandTail + `
   Nothing is attached, and nothing is changed. Without root only what this process may read is shown.
   Link-local addresses and the routes to them are in JSON alone.
`

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

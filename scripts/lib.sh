# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What the lab's scripts share: where the cache lies, how progress and errors
# are told, and how missing tools come to the machine. Sourced, never run.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=${STACKHOP_CACHE:-$ROOT/.cache}/lab

# LAB_TROUBLE is the exit status for "the lab itself failed", so that a caller
# can tell it from whatever the command in the guest returned.
LAB_TROUBLE=125

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

# die MESSAGE: names the cause and the way out, and ends with LAB_TROUBLE.
die() {
	say "$*"
	exit "$LAB_TROUBLE"
}

# as_root COMMAND...: runs it directly for root, through sudo for others.
as_root() {
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	else
		command -v sudo >/dev/null || die "'$*' needs root: run as root, or install sudo"
		sudo "$@"
	fi
}

# need COMMAND=PACKAGE...: installs the Debian packages of the commands that
# are missing. Serialised by a lock: side by side runs would fight over dpkg's.
need() {
	local pair missing=()
	for pair in "$@"; do
		PATH=$PATH:/usr/sbin:/sbin command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	command -v apt-get >/dev/null || die "missing: ${missing[*]} (Debian names). Install them; there is no apt-get here to do it"
	say "installing ${missing[*]}"
	mkdir -p "$CACHE"
	(
		flock 9
		export DEBIAN_FRONTEND=noninteractive
		as_root apt-get -qq update &&
			as_root apt-get -qq install --no-install-recommends -y "${missing[@]}"
	) 9>"$CACHE/install.lock" >&2 || die "apt-get could not install ${missing[*]}: its message is above"
}

# series_ok SERIES: the series that the lab knows how to fetch.
series_ok() {
	case $1 in
	5.10 | 6.1 | 6.12 | 6.18 | 7) ;;
	*) die "unknown kernel series '$1': the lab has 5.10, 6.1, 6.12, 6.18 and 7 (the newest 7.x)" ;;
	esac
}

# pack DIR FILE: an uncompressed archive: unpacking costs more under emulation
# than reading does.
pack() {
	(cd "$1" && find . -print0 | LC_ALL=C sort -z | cpio --null -o -H newc -R 0:0 --quiet) >"$2.part.$$"
	mv "$2.part.$$" "$2"
}

# libraries FILE...: the shared libraries that the files are linked with.
libraries() { ldd "$@" 2>/dev/null | sed -nE 's/.*(=> |\t)(\/[^ ]+) \(0x.*/\2/p' | sort -u; }

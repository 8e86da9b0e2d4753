# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Packages of several Debian releases, without touching what the machine has
# installed: apt works on a sources list and a state folder of the lab's own.
# Sourced after lib.sh, never run. One user at a time: hold $CACHE/kernels/.lock.

listed=''

# mirror: the URI of the Debian archive that this machine's apt is set up with.
mirror() {
	local uri
	uri=${STACKHOP_DEBIAN_MIRROR:-$(
		cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
			sed -nE 's/^(deb |URIs:).*(https?|file|mirror\+[a-z]+|copy):/\2:/p' |
			awk '{print $1}' | grep -E '/debian/?$' | head -n1
	)}
	[ -n "$uri" ] || die "no Debian archive in apt's sources: set STACKHOP_DEBIAN_MIRROR to the URI of one"
	printf '%s\n' "${uri%/}"
}

# apt_setup [REFRESH]: a sources list and a state folder of our own, refreshed when
# they are older than a day, or if REFRESH is not empty. The security archive lies
# beside the main one; where a mirror has none, the series' last point release
# serves as well.
apt_setup() {
	local refresh=${1:-} uri suite dir=$CACHE/apt opts
	[ -z "$listed" ] || return 0
	listed=1
	export APT_CONFIG=$dir/apt.conf
	if [ -z "$refresh" ] && [ -n "$(find "$dir/updated" -mmin -1440 2>/dev/null)" ]; then return; fi
	mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial"
	: >"$dir/status"
	cat >"$APT_CONFIG" <<-END
		Dir::State "$dir";
		Dir::State::lists "$dir/lists";
		Dir::State::status "$dir/status";
		Dir::Cache "$dir/cache";
		Dir::Etc::sourcelist "$dir/sources.list";
		Dir::Etc::sourceparts "-";
		Acquire::Languages "none";
		Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
		APT::Sandbox::User "root";
		APT::Architecture "amd64";
		Acquire::Retries "3";
	END
	uri=$(mirror)
	opts=signed-by=/usr/share/keyrings/debian-archive-keyring.gpg
	for suite in bullseye bookworm trixie trixie-backports; do
		printf 'deb [%s] %s %s main\n' "$opts" "$uri" "$suite"
	done >"$dir/sources.list"
	cp "$dir/sources.list" "$dir/main.list"
	printf 'deb [%s] %s-security bullseye-security main\n' "$opts" "$uri" >>"$dir/sources.list"
	say "reading the package lists of $uri"
	if ! apt-get -qq update >&2; then
		cp "$dir/main.list" "$dir/sources.list"
		apt-get -qq update >&2 || die "cannot read the package lists of $uri: its message is above"
	fi
	touch "$dir/updated"
}

# unpack SUITE DIR PACKAGE...: downloads packages of a release and unpacks them,
# without what they depend on.
unpack() {
	local suite=$1 dir=$2 deb file
	shift 2
	apt_setup
	say "fetching $*"
	deb=$(mktemp -d "$CACHE/apt/deb.XXXXXX")
	(cd "$deb" && apt-get -qq download "${@/%//$suite}" >&2) ||
		{ rm -rf "$deb"; die "cannot download $*: if they vanished from the archive, 'scripts/kernels --refresh' reads its lists again"; }
	mkdir -p "$dir"
	for file in "$deb"/*.deb; do dpkg -x "$file" "$dir"; done
	rm -rf "$deb"
}

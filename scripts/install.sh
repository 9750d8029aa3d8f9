#!/bin/sh
# Installs holdfast where there is no apt: the same files, account and service as from the package.
#
#   install.sh [--unsigned] [FROM]  install or upgrade; run again at any time
#   install.sh --uninstall          remove the program; configuration and data stay
#   install.sh --purge              remove those too
#
# FROM is an archive (holdfast_VERSION_arm64.tar.gz), or a directory, file:// or https:// address with archives
# and SHA256SUMS; by default the directory of this script. A checksum that is there has to be right, and so has its
# signature, SHA256SUMS.sig, if this script has the key of the release. An archive from the network has to have both;
# --unsigned does without the signature, for a release that has none or an archive of your own.
set -eu
export LC_ALL=C # the order of sort and comm

# The key that SHA256SUMS is signed with; scripts/sign puts it here. Empty in a release that is not signed.
public_key=''

fail() {
	echo "install.sh: $*" >&2
	exit 1
}
installed=/usr/lib/holdfast/files

uninstall() {
	if [ -d /run/systemd/system ]; then
		systemctl stop 'holdfast@*.service' || :
		systemctl disable --now holdfast.service || :
	fi
	if [ -r "$installed" ]; then
		while read -r name; do
			rm -f "/$name"
		done <"$installed"
		rm -f "$installed"
		rmdir /usr/lib/holdfast /usr/share/holdfast /usr/share/doc/holdfast/examples /usr/share/doc/holdfast 2>/dev/null || :
	fi
	[ ! -d /run/systemd/system ] || systemctl daemon-reload
	if [ "$1" = --purge ]; then
		rm -rf /etc/holdfast /var/lib/holdfast /run/holdfast
		! id holdfast >/dev/null 2>&1 || userdel holdfast
	else
		echo "Removed. Configuration and data stay in /etc/holdfast and /var/lib/holdfast: --purge removes them."
	fi
}

root() { [ "$(id -u)" -eq 0 ] || fail "has to run as root: sudo sh $0 $*"; }

unsigned=
if [ "${1-}" = --unsigned ]; then
	unsigned=yes
	shift
fi
case ${1-} in
--uninstall | --purge)
	root "$@"
	! dpkg -s holdfast >/dev/null 2>&1 || fail "holdfast was installed as a package: apt remove holdfast, or apt purge holdfast"
	uninstall "$1"
	exit
	;;
-*)
	sed -n '2,/^set -eu/s/^# \{0,1\}//p' "$0"
	[ "$1" = --help ] || [ "$1" = -h ] || exit 2
	exit
	;;
esac
root ${unsigned:+--unsigned} "$@"
! dpkg -s holdfast >/dev/null 2>&1 || fail "holdfast is installed as a package already: upgrade it with apt install ./holdfast_VERSION_ARCH.deb"

case $(uname -m) in
aarch64 | arm64) arch=arm64 ;;
armv7* | armv8l) arch=armv7 ;;
armv6*) arch=armv6 ;;
*) fail "there is no archive for $(uname -m): build one with make build" ;;
esac
# A 64-bit kernel over a 32-bit system runs both; the static program needs the kernel alone.

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
from=${1:-$(cd "$(dirname "$0")" && pwd)}

fetch() { # URL FILE
	if command -v curl >/dev/null; then
		curl -fsSL --proto =https --proto-redir =https -o "$2" "$1"
	elif wget --help 2>&1 | grep -q -e --https-only; then
		wget -q --https-only --max-redirect=0 -O "$2" "$1" # --https-only alone follows redirects to http
	else
		fail "curl or GNU wget is needed to fetch $1: apt install curl, or fetch the files elsewhere and give their directory"
	fi
}

# signature refuses sums that the release key has not signed, or cannot be checked. With openssl, which has done this
# since 1.0 and is on every Debian and Raspberry Pi OS.
signature() { # SHA256SUMS SHA256SUMS.sig
	[ -e "$2" ] || fail "$2 is missing: the sums of this release are signed, and without the signature an attacker may have written them"
	command -v openssl >/dev/null || fail "openssl is needed to check the signature of $1: apt install openssl"
	printf '%s\n' "$public_key" >"$work/public.pem"
	openssl dgst -sha256 -verify "$work/public.pem" -signature "$2" "$1" >/dev/null 2>&1 ||
		fail "$1 is not what was released: its signature does not fit the key in this script. Fetch all files again, and this script from where you trust it"
}

case $from in
file:///*) from=${from#file://} ;;
https://*) ;;
*://*) fail "$from: only https:// and file:/// are taken, because others on the way may change what http:// brings" ;;
esac
remote=
case $from in
https://*)
	remote=yes
	[ -n "$public_key$unsigned" ] || fail "this release is not signed, and nothing is fetched without a signature: --unsigned does, if you trust $from as you trust root"
	from=${from%/}
	fetch "$from/SHA256SUMS" "$work/SHA256SUMS" || fail "$from has no SHA256SUMS"
	if [ -n "$public_key" ] && [ -z "$unsigned" ]; then
		fetch "$from/SHA256SUMS.sig" "$work/SHA256SUMS.sig" || fail "$from has no SHA256SUMS.sig: the sums of this release are signed"
		signature "$work/SHA256SUMS" "$work/SHA256SUMS.sig"
	fi
	name=$(sed -n "s/^[0-9a-f]*  \(holdfast_[^/]*_$arch\.tar\.gz\)\$/\1/p" "$work/SHA256SUMS" | tail -n 1)
	[ -n "$name" ] || fail "SHA256SUMS of $from names no archive for $arch"
	fetch "$from/$name" "$work/$name" || fail "$from/$name cannot be fetched"
	archive=$work/$name sums=$work/SHA256SUMS
	;;
*)
	archive=$from
	if [ -d "$from" ]; then
		archive=
		for a in "$from"/holdfast_*_"$arch".tar.gz; do
			[ ! -e "$a" ] || archive=$a
		done
		[ -n "$archive" ] || fail "$from has no archive holdfast_VERSION_$arch.tar.gz"
	fi
	[ -r "$archive" ] || fail "$archive cannot be read"
	name=$(basename "$archive") sums=$(dirname "$archive")/SHA256SUMS
	;;
esac
if [ -e "$sums" ]; then
	if [ -z "$public_key" ]; then
		echo "install.sh: this release is not signed: its checksums show damage, not who made it" >&2
	elif [ -z "$remote$unsigned" ]; then
		signature "$sums" "$sums.sig"
	fi
	want=$(awk -v name="$name" '$2 == name { print $1 }' "$sums")
	[ -n "$want" ] || fail "$sums does not name $name"
	got=$(sha256sum "$archive" | cut -d ' ' -f 1)
	[ "$got" = "$want" ] || fail "$name is damaged or not what was released: its SHA-256 is $got, $sums says $want"
elif [ -n "$public_key" ] && [ -z "$unsigned" ]; then
	fail "$sums is missing: put SHA256SUMS and SHA256SUMS.sig of the release beside $name"
fi

# Unpacked beside and moved into place, so that the running program is never half of two.
mkdir "$work/new"
tar -xzf "$archive" -C "$work/new" || fail "$archive cannot be unpacked"
(cd "$work/new" && find . -type f | sed 's,^\./,,' | sort) >"$work/files"
grep -qx usr/bin/holdfast "$work/files" || fail "$archive is no archive of holdfast"
"$work/new/usr/bin/holdfast" --version >/dev/null || fail "the program of $name does not run on this machine"
while read -r file; do
	mkdir -p "/$(dirname "$file")"
	cp -p "$work/new/$file" "/$file.new"
	chown 0:0 "/$file.new"
	mv -f "/$file.new" "/$file"
done <"$work/files"
# What an older version had and this one has not.
if [ -r "$installed" ]; then
	sort "$installed" | comm -23 - "$work/files" | while read -r file; do
		rm -f "/$file"
	done
fi
cp "$work/files" "$installed"
/usr/lib/holdfast/setup

if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	systemctl enable holdfast.service
	systemctl restart holdfast.service
	systemctl try-restart 'holdfast@*.service' || :
	echo "holdfast runs: journalctl -u holdfast. Its configuration is /etc/holdfast/holdfast.yaml."
else
	echo "There is no systemd here. Have your init start, as user holdfast:"
	echo "  /usr/bin/holdfast run -c /etc/holdfast/holdfast.yaml"
fi

#!/bin/sh
# Installs Clickstamp from an archive of a release.
# In: the archive, as a file or an https address. SHA256SUMS is taken from beside it, or from --sums. Out: the program in
# PREFIX/bin, by default /usr/local/bin; with --systemd also the user, the service and /etc/clickstamp.env.
# Promise: nothing is installed unless the checksum is right, and with --key unless the signature is.
set -eu

usage() {
  cat <<'END'
usage: install.sh [--systemd] [--prefix DIR] [--sums FILE|URL] [--key PUBLIC-KEY] ARCHIVE

  ARCHIVE         clickstamp-VERSION-linux-ARCH.tar.gz, a file or an https address
  --systemd       also install the service; needs root
  --prefix DIR    instead of /usr/local
  --sums FILE     the checksums, if SHA256SUMS is not beside the archive
  --key KEY       check the signature SHA256SUMS.minisig with this public key; needs minisign
END
}
fail() { echo "install.sh: $*" >&2; exit 1; }

archive='' sums='' key='' prefix=/usr/local service=no
while [ $# -gt 0 ]; do
  case $1 in
    --systemd) service=yes ;;
    --prefix | --sums | --key)
      [ $# -ge 2 ] || fail "$1 needs a value"
      case $1 in --prefix) prefix=$2 ;; --sums) sums=$2 ;; --key) key=$2 ;; esac
      shift
      ;;
    -h | --help) usage && exit 0 ;;
    -*) usage >&2 && exit 2 ;;
    *) [ -z "$archive" ] || fail 'one archive only'; archive=$1 ;;
  esac
  shift
done
[ -n "$archive" ] || { usage >&2 && exit 2; }

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' INT TERM HUP

# get SOURCE FILE: copies a file or downloads an address.
get() {
  case $1 in
    https://* | http://localhost[:/]* | http://127.0.0.1[:/]*)
      if command -v curl >/dev/null; then
        curl --fail --silent --show-error --location --output "$2" -- "$1"
      elif command -v wget >/dev/null; then
        wget --quiet --output-document="$2" -- "$1"
      else
        fail 'curl or wget is needed to download'
      fi
      ;;
    http://*) fail 'only https addresses are downloaded' ;;
    *) cp -- "$1" "$2" ;;
  esac || fail "cannot get $1"
}

name=${archive##*/}
name=${name%%\?*}
case $name in
  clickstamp-*-linux-amd64.tar.gz) arch=amd64 ;;
  clickstamp-*-linux-arm64.tar.gz) arch=arm64 ;;
  *) fail "$name is not the name of an archive of a release" ;;
esac
case $(uname -m) in
  x86_64) here=amd64 ;;
  aarch64 | arm64) here=arm64 ;;
  *) here=$(uname -m) ;;
esac
[ "$arch" = "$here" ] || fail "$name is for $arch, this machine is $here"
if [ -z "$sums" ]; then
  case $archive in */*) sums=${archive%/*}/SHA256SUMS ;; *) sums=SHA256SUMS ;; esac
fi

get "$archive" "$scratch/$name"
get "$sums" "$scratch/SHA256SUMS"
if [ -n "$key" ]; then
  command -v minisign >/dev/null || fail '--key needs minisign'
  get "$sums.minisig" "$scratch/SHA256SUMS.minisig"
  minisign -V -q -P "$key" -m "$scratch/SHA256SUMS" || fail 'the signature is wrong; nothing was installed'
fi
# The one line of this archive.
grep -E "^[0-9a-f]{64} [ *]$(printf %s "$name" | sed 's/\./\\./g')\$" "$scratch/SHA256SUMS" >"$scratch/line" ||
  fail "SHA256SUMS does not list $name; nothing was installed"
(cd "$scratch" && sha256sum -c line >/dev/null 2>&1) || fail "the checksum of $name is wrong; nothing was installed"

tar -xzf "$scratch/$name" -C "$scratch"
unpacked=$scratch/${name%.tar.gz}
"$unpacked/clickstamp" --version >/dev/null || fail 'the program does not start on this machine; nothing was installed'
mkdir -p "$prefix/bin"
# Renamed into place, so that a server that runs keeps its file.
cp "$unpacked/clickstamp" "$prefix/bin/.clickstamp.new"
chmod 755 "$prefix/bin/.clickstamp.new"
mv -f "$prefix/bin/.clickstamp.new" "$prefix/bin/clickstamp"
echo "installed: $prefix/bin/clickstamp ($("$prefix/bin/clickstamp" --version))"

if [ "$service" = yes ]; then
  [ "$(id -u)" -eq 0 ] || fail '--systemd needs root'
  getent passwd clickstamp >/dev/null ||
    useradd --system --user-group --home-dir /var/lib/clickstamp --no-create-home --shell /usr/sbin/nologin clickstamp
  # The settings of an earlier installation stay.
  [ -e /etc/clickstamp.env ] || (umask 077 && cp "$unpacked/clickstamp.env" /etc/clickstamp.env)
  sed "s|^ExecStart=.*|ExecStart=$prefix/bin/clickstamp|" "$unpacked/clickstamp.service" >/etc/systemd/system/clickstamp.service
  if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
  echo 'Set CLICKSTAMP_PUBLIC_URL in /etc/clickstamp.env, then: systemctl enable --now clickstamp'
else
  echo "Try it: $prefix/bin/clickstamp demo"
fi

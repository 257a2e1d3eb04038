# shellcheck shell=bash
# Shared by the scripts beside it; sourced, not run. Leaves the shell in the repository's root.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

say() { printf '\n==> %s\n' "$*"; }

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# as_root COMMAND...: directly for root, by sudo for others.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        fail "this needs root and there is no sudo; run as root: $*"
    fi
}

# is_older A B: version A comes before version B.
is_older() { [ "$1" != "$2" ] && [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]; }

# The manifest's first line says which Swift it needs: there is no second place to keep up to date.
require_swift() {
    local needed found
    needed=$(sed -n '1s/^.*swift-tools-version: *//p' Package.swift)
    command -v swift >/dev/null ||
        fail "no 'swift' in PATH. Install Swift $needed or later (https://www.swift.org/install/linux/) and try again."
    found=$(swift --version 2>/dev/null | sed -n 's/^.*Swift version \([0-9][0-9.]*\).*$/\1/p' | head -n 1) || true
    [ -n "$found" ] || fail "'$(command -v swift) --version' does not print a Swift version."
    if is_older "$found" "$needed"; then
        fail "Swift $found ($(command -v swift)) is too old: Dunlin needs $needed or later."
    fi
}

is_installed() { dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q 'ok installed'; }

# require_packages PACKAGE...: installs what is missing and touches nothing when all is there.
require_packages() {
    local missing=() package
    command -v dpkg-query >/dev/null ||
        fail "this is no Debian or Ubuntu. Install these packages or their likes by hand and build with 'swift build': $*"
    for package in "$@"; do
        is_installed "$package" || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return
    say "Installing ${missing[*]}"
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
    # Brokers and agents come as peers of the tests: the service that a package starts would hold the ports of one.
    for package in "${missing[@]}"; do
        case $package in
        mosquitto | serf)
            if [ -d /run/systemd/system ]; then
                as_root systemctl disable --quiet --now "$package"
            elif [ -x "/etc/init.d/$package" ]; then
                as_root "/etc/init.d/$package" stop >/dev/null 2>&1 || true
            fi
            ;;
        esac
    done
}

# offered PACKAGE: this release of the distribution has it.
offered() {
    apt-cache show "$1" >/dev/null 2>&1 && return
    as_root apt-get update -qq
    apt-cache show "$1" >/dev/null 2>&1
}

# What building needs beyond Swift itself. pkg-config tells the package manager where libzstd is.
build_packages=(libzstd-dev libsqlite3-dev pkg-config)

#!/bin/sh
# Prints the Homebrew formula of this version, with the checksums of the archives in DIST:
# sh scripts/formula.sh OWNER/NAME DIST
set -eu

repository=$1 dist=$2
version=$(sh "$(dirname "$0")/version.sh")
url=https://github.com/$repository

archive() { # TARGET
    name=codex-pool-$version-$1.tar.gz
    read -r sum file <"$dist/$name.sha256"
    if [ ${#sum} -ne 64 ] || [ "$file" != "$name" ]; then
        echo "$dist/$name.sha256 is not a checksum of $name" >&2
        exit 1
    fi
    cat <<EOT
      url "$url/releases/download/v$version/$name"
      sha256 "$sum"
EOT
}

# Before anything is printed: a checksum that is missing must not make half a formula.
mac_arm=$(archive aarch64-apple-darwin)
mac_intel=$(archive x86_64-apple-darwin)
linux_arm=$(archive aarch64-unknown-linux-musl)
linux_intel=$(archive x86_64-unknown-linux-musl)

cat <<EOT
# Written by the release of codex-pool $version.
class CodexPool < Formula
  desc "Several Codex accounts on one machine, used as if they were one"
  homepage "$url"
  version "$version"
  license any_of: ["MIT", "Apache-2.0"]

  on_macos do
    on_arm do
$mac_arm
    end
    on_intel do
$mac_intel
    end
  end

  on_linux do
    on_arm do
$linux_arm
    end
    on_intel do
$linux_intel
    end
  end

  def install
    # Side by side, where \`codex-pool init\` looks for the shim. It is not linked: a \`codex\` of Homebrew's would be in
    # the way of the real one.
    libexec.install "codex-pool", "codex"
    bin.install_symlink libexec/"codex-pool"
    generate_completions_from_executable(bin/"codex-pool", "completions")
  end

  def caveats
    <<~EOS
      Run this now, and after each upgrade:
        codex-pool init
      It puts the shim \`codex\` into ~/.codex-pool/bin, first on PATH.
    EOS
  end

  test do
    assert_equal "codex-pool #{version}", shell_output("#{bin}/codex-pool --version").strip
  end
end
EOT

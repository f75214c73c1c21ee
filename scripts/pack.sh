#!/bin/sh
# Packs what is in FOLDER into ARCHIVE (.tar.gz): sh scripts/pack.sh ARCHIVE FOLDER NAME…
# It belongs to root in there: a user or group of the machine that packs it may be somebody else where it is unpacked.
set -eu

archive=$1 folder=$2
shift 2
if tar --version | grep -q bsdtar; then
    owner='--uid 0 --gid 0 --uname root --gname root'
else
    owner='--owner=root:0 --group=root:0'
fi
# COPYFILE_DISABLE: macOS's tar would add a `._` file beside each.
# shellcheck disable=SC2086  # some words
COPYFILE_DISABLE=1 tar -czf "$archive" $owner -C "$folder" "$@"

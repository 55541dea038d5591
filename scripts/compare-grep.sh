#!/usr/bin/env bash
# Compares our grep with GNU grep: scripts/compare-grep.sh OUR_GREP PATH...
# Output and exit status must be the same, byte for byte, for each line of options below.
# GNU grep visits a directory's entries in no order, so it is given the sorted files by name.
set -uo pipefail
ours=$1
shift
mapfile -t files < <(find "$@" -type f | LC_ALL=C sort)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0

compare() { # options and pattern
    "$ours" "$@" "${files[@]}" >"$work/ours" 2>"$work/ours.err"
    local our_status=$?
    grep "$@" "${files[@]}" >"$work/gnu" 2>"$work/gnu.err"
    local gnu_status=$?
    if [ $our_status = $gnu_status ] && cmp -s "$work/ours" "$work/gnu"; then
        passed=$((passed + 1))
        return
    fi
    failed=$((failed + 1))
    printf 'DIFFERS: grep %q' "$1"
    printf ' %q' "${@:2}"
    printf ' (status %s, GNU %s)\n' $our_status $gnu_status
    diff "$work/ours" "$work/gnu" | head -5
    head -3 "$work/ours.err"
}

compare 'unsafe fn'
compare -n 'unsafe fn'
compare -c 'Ordering::'
compare -l 'Acquire'
compare -o -n 'fn [a-z_]*('
compare -E -i 'page|frame'
compare -w -n 'frame'
compare -v -c ''
compare -F -n '#[repr(C)]'
compare -E -o '[0-9]+ (bytes|pages)'
compare -n '^$'
compare 'no such text anywhere, or is there'"'"'t'
printf '%s passed, %s failed\n' $passed $failed
[ $failed = 0 ]

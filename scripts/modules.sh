# Sourced by the other scripts, from the root of the repository.

# modules prints the folder of every Go module of the repository that holds
# packages; with "all", also of those that only pin the versions of tools.
modules() {
	find . \( -name .git -o -name bin -o -name testdata \) -prune -o -name go.mod -print | sort |
		while read -r file; do
			dir=$(dirname "$file")
			# A module that cannot be listed is in the list: it has to fail
			# where that is seen.
			if [ "${1:-}" = all ] || ! packages=$(go -C "$dir" list ./... 2>/dev/null) || [ -n "$packages" ]; then
				echo "$dir"
			fi
		done
}

# step prints what comes next.
step() {
	echo "== $*"
}

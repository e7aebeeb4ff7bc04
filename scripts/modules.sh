# Sourced by the other scripts, from the root of the repository.

# modules prints the folder of every Go module of the repository that holds
# packages; with "all", also of those that only pin the versions of tools.
modules() {
	find . \( -name .git -o -name bin -o -name .tools -o -name testdata \) -prune -o -name go.mod -print | sort |
		while read -r file; do
			dir=$(dirname "$file")
			# A module that cannot be listed is in the list: it has to fail
			# where that is seen.
			if [ "${1:-}" = all ] || ! packages=$(in_module "$dir" go -C "$dir" list ./... 2>/dev/null) || [ -n "$packages" ]; then
				echo "$dir"
			fi
		done
}

# in_module runs a command for a module. A module that requires the SDK of this
# repository, which need not be released yet, finds it through go.work; all
# others are checked as their users have them.
in_module() {
	sdk=github.com/stiggio/server-sdk-go
	if grep -q "$sdk v" "$1/go.mod" && ! grep -q "replace $sdk" "$1/go.mod"; then
		"${@:2}"
	else
		GOWORK=off "${@:2}"
	fi
}

# step prints what comes next.
step() {
	echo "== $*"
}

#!/bin/sh
# Runs what the image is asked for: `instanceGM.py --r 0.5` and `-m shared ...` by python, `cifar10.sh` by bash, anything
# else as it is, as the published image did: `/bin/bash -c "cd /src && python instanceGM.py"`.
set -eu

# Where the scripts are started, these are links, and a link to nothing is no folder.
for folder in $OUTPUTS; do
    if ! mkdir -p "$folder" 2>/dev/null || ! [ -w "$folder" ]; then
        cat >&2 <<-MESSAGE
		$folder is not writable by user $(id -u): a run could leave nothing there. Make the folders to be mounted before docker
		makes them, and start as the user who owns them:
		  mkdir -p runs data
		  docker run --user "\$(id -u):\$(id -g)" -v "\$PWD/runs:/runs" -v "\$PWD/data:/data" ...
		If docker made them, they belong to root: sudo chown -R "\$(id -u):\$(id -g)" runs data
		MESSAGE
        exit 1
    fi
done

case ${1:-} in
'' | -* | *.py) exec python "$@" ;;
*.sh) exec bash "$@" ;;
*) exec "$@" ;;
esac

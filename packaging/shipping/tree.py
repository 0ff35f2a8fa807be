"""A Debian root to change and to throw away: an overlay in memory over a directory tree, or over this host's own root.

Nothing is written to the tree below, and the mounts end with the command, as they are in a namespace of its own.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

UPPER: Final = Path("/mnt/upper")
"""What has changed, seen from within the mount namespace but outside of the new root."""
_SCRIPT: Final = """
set -e
lower=$1 binds=$2; shift 2
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay -o "lowerdir=$lower,upperdir=/mnt/upper,workdir=/mnt/work" overlay /mnt/root
cd /mnt/root
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mount --rbind /dev dev
mount --rbind /sys sys
mount -t proc proc proc
for bind in $binds; do
    if [ -d "$bind" ]; then mkdir -p ".$bind"; else mkdir -p ".${bind%/*}"; [ -e ".$bind" ] || : > ".$bind"; fi
    mount --rbind "$bind" ".$bind"
done
exec chroot /mnt/root "$@"
"""


def command(lower: Path, binds: Sequence[Path], *words: str) -> list[str]:
    """Return a command that runs `words` in a new root over `lower`, where `binds` of this host are as well; root runs it."""
    own = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--", "sh", "-c", _SCRIPT, "sh"]
    return [*own, str(lower), " ".join(map(str, binds)), *words]

"""What the metadata of the package say of where it is from; hatchling asks for it at each build.

On an index README stands alone. Its pictures and links lead to the repository that pyproject.toml
names; as long as it names none, they are left out.
"""

import re
import tomllib
from pathlib import Path

from hatchling.metadata.plugin.interface import MetadataHookInterface

RELATIVE = r"\((?!\w+:|#)([^)\s]+)\)"
PICTURE, LINK = r"!\[([^\]]*)\]" + RELATIVE, r"(?<!!)\[([^\]]*)\]" + RELATIVE


def alone(readme: str, repository: str, tag: str) -> str:
    """Return a README without links that are relative to a folder."""
    if not repository:
        return re.sub(LINK, r"\1", re.sub(PICTURE + r"\n*", "", readme))
    readme = re.sub(PICTURE, rf"![\1]({repository}/raw/{tag}/\2)", readme)
    return re.sub(LINK, rf"[\1]({repository}/blob/{tag}/\2)", readme)


class Addresses(MetadataHookInterface):
    """Adds the README, the addresses and the contact."""

    def update(self, metadata: dict) -> None:
        """Fill in what pyproject.toml calls dynamic."""
        root = Path(self.root)
        known = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["tool"]["revlearn"]
        repository = known["repository"].rstrip("/")
        text = alone((root / "README.md").read_text("utf-8"), repository, f"v{metadata['version']}")
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
        metadata["urls"] = {"Documentation": known["site"]} if known["site"] else {}
        if repository:
            metadata["urls"] |= {
                "Repository": repository,
                "Issues": f"{repository}/issues",
                "Changelog": f"{repository}/blob/main/CHANGELOG.md",
            }
        contacts = [known["contact"]] if known["contact"] else []
        metadata["maintainers"] = [{"email": address} for address in contacts]

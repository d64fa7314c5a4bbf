"""A build backend that needs nothing, and the empty wheels of a test's package index."""

import zipfile


def wheel(folder, name, version, *needs):
    """Write an empty package as a wheel into a folder, and return the file's name."""
    metadata = "\n".join(["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"])
    metadata += "".join(f"\nRequires-Dist: {need}" for need in needs) + "\n"
    tags = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    stem = f"{name.replace('-', '_')}-{version}"
    with zipfile.ZipFile(f"{folder}/{stem}-py3-none-any.whl", "w") as archive:
        for part, text in {"METADATA": metadata, "WHEEL": tags, "RECORD": ""}.items():
            archive.writestr(f"{stem}.dist-info/{part}", text)
    return f"{stem}-py3-none-any.whl"


def build_editable(folder, settings=None, metadata=None):
    return wheel(folder, "onlybn", "0.1.0")

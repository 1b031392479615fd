"""Find the pretraining data of a timm backbone from the tag of its name."""

# parts of timm's tags, for example of clip_laion2b_augreg_ft_in12k_in1k
_DATA = {
    "in1k": "ImageNet-1K", "in12k": "ImageNet-12K", "in21k": "ImageNet-21K", "inw21k": "ImageNet-21K",
    "in22k": "ImageNet-22K", "ssld": "ImageNet-22K", "jft": "JFT-300M", "ig1b": "Instagram", "swag": "Instagram",
    "seer": "Instagram", "yfcc15m": "YFCC", "yfcc100m": "YFCC", "laion400m": "LAION", "laion2b": "LAION",
    "laiona": "LAION", "openai": "WIT-400M (CLIP)", "datacomp1b": "DataComp", "datacompxl": "DataComp",
    "dfn2b": "DFN", "dfn5b": "DFN", "dfndr2b": "DFN", "metaclip": "MetaCLIP", "metaclip2": "MetaCLIP",
    "webli": "WebLI", "lvd142m": "LVD-142M (DINOv2)", "lvd1689m": "LVD-1689M (DINOv3)", "sat493m": "SAT-493M (DINOv3)",
    "merged2b": "Merged-2B (EVA)", "m30m": "Merged-30M (EVA)", "m38m": "Merged-38M (EVA)", "cc12m": "CC12M",
    "sa1b": "SA-1B", "bamboo": "Bamboo",
}  # fmt: skip
# self-supervised methods whose tags omit the data if it is ImageNet-1K
_ON_IMAGENET = {"dino", "mae", "fcmae"}


def pretraining_data(tag: str) -> tuple[str, ...] | None:
    """Return the data that weights were trained on, in the order of the tag; None if the tag does not specify it.

    >>> pretraining_data("clip_laion2b_augreg_ft_in12k_in1k")
    ('LAION', 'ImageNet-12K', 'ImageNet-1K')
    >>> pretraining_data("fcmae"), pretraining_data("c_radio")
    (('ImageNet-1K',), None)
    """
    parts = tag.split("_")
    found = tuple(dict.fromkeys(_DATA[part] for part in parts if part in _DATA))
    if not found and not _ON_IMAGENET.isdisjoint(parts):
        return ("ImageNet-1K",)
    if "clip" in parts and set(found) <= {"ImageNet-1K"}:  # fine-tuned from a CLIP model whose data the tag omits
        return ("data of CLIP", *found)
    return found or None

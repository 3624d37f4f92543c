"""What a stored image is as an ImageNode of LlamaIndex."""

from __future__ import annotations

from llama_index.core.schema import ImageNode, NodeRelationship, NodeWithScore, RelatedNodeInfo

from clip_qdrant.collection.hits import Hit
from clip_qdrant.integrations.payloads import read_fields

__all__ = ["NODE_ID", "REF_DOC_ID", "make_node"]

# Metadata fields of images that came as nodes.
NODE_ID = "node_id"
REF_DOC_ID = "ref_doc_id"


def make_node(hit: Hit) -> NodeWithScore:
    """The node of a hit, with its score. Its text is the caption, its id the uri, or that of the node that was added.

    A local file is its `image_path`, what is on the web its `image_url`; an image of another place (a bucket, an
    archive) has neither. The metadata are those of the image, with `taken_at`, `location`, `uri` and `caption`, since
    what LlamaIndex shows of an ImageNode to a model that sees is the picture and its metadata, not its text.
    """
    metadata = read_fields(hit.payload)
    node_id, document = metadata.pop(NODE_ID, None), metadata.pop(REF_DOC_ID, None)
    form = (hit.payload.get("image") or {}).get("format")
    node = ImageNode(
        id_=node_id or hit.uri or hit.id,
        text=hit.caption or "",
        image_path=None if hit.path is None else str(hit.path),
        image_url=hit.uri if hit.uri.startswith(("http://", "https://")) and "#" not in hit.uri else None,
        image_mimetype=None if form is None else f"image/{form.lower()}",
        relationships={} if document is None else {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=document)},
        metadata={**metadata, "uri": hit.uri, **({"caption": hit.caption} if hit.caption else {})},
    )
    return NodeWithScore(node=node, score=hit.score)

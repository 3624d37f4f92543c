"""The part of EdgeClient that gives collections other names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from qdrant_client import models

from clip_qdrant.errors import InvalidRequest, first_line
from clip_qdrant.store.edge.collections import EdgeCollections, check_options

__all__ = ["EdgeAliases"]


class EdgeAliases(EdgeCollections):
    """Change and list aliases."""

    def update_collection_aliases(
        self,
        change_aliases_operations: Sequence[models.AliasOperations],
        timeout: int | None = None,
        **kwargs: Any,
    ) -> bool:
        """Apply all operations or, if one fails, none."""
        check_options(kwargs)
        try:
            asked = models.ChangeAliasesOperation.model_validate({"actions": list(change_aliases_operations)})
        except (ValidationError, TypeError) as error:
            raise InvalidRequest(f"these are no operations on aliases ({first_line(error)})") from error
        with self._folder.edit() as catalog:
            for operation in asked.actions:
                match operation:
                    case models.CreateAliasOperation(create_alias=new):
                        if new.collection_name not in catalog.collections:  # an alias of an alias is refused too
                            raise catalog.not_found(new.collection_name)
                        _refuse_taken(new.alias_name, catalog.collections)
                        catalog.aliases[new.alias_name] = new.collection_name
                    case models.DeleteAliasOperation(delete_alias=old):
                        catalog.aliases.pop(old.alias_name, None)
                    case models.RenameAliasOperation(rename_alias=names):
                        _refuse_taken(names.new_alias_name, catalog.collections)
                        if names.old_alias_name not in catalog.aliases:
                            raise InvalidRequest(f"there is no alias {names.old_alias_name!r} to rename")
                        catalog.aliases[names.new_alias_name] = catalog.aliases.pop(names.old_alias_name)
        return True

    def get_aliases(self, **kwargs: Any) -> models.CollectionsAliasesResponse:
        """All aliases, with the collection behind each."""
        check_options(kwargs)
        pairs = self._folder.catalog().aliases.items()
        return models.CollectionsAliasesResponse(
            aliases=[models.AliasDescription(alias_name=alias, collection_name=name) for alias, name in pairs]
        )

    def get_collection_aliases(self, collection_name: str, **kwargs: Any) -> models.CollectionsAliasesResponse:
        """The aliases of one collection; none if there is no such collection."""
        check_options(kwargs)
        everything = self.get_aliases().aliases
        return models.CollectionsAliasesResponse(
            aliases=[one for one in everything if one.collection_name == collection_name]
        )


def _refuse_taken(alias: str, collections: Mapping[str, object]) -> None:
    if alias in collections:
        raise InvalidRequest(f"{alias!r} is a collection, and an alias must not have the name of one")

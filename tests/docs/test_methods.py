"""The tables of recipes in the pages of methods are those that the recipes give."""

import re

import pytest
from pages import DOCS, read

from inbatch.recipe_list import as_markdown, listed

MARKED = re.compile(r"^<!-- recipes: ([\w -]+?) -->\n(.*?)^<!-- end -->$", re.DOTALL | re.MULTILINE)
TABLES = {page: MARKED.findall(read(page)) for page in DOCS if page.startswith("docs/methods/")}


@pytest.mark.parametrize("page", TABLES)
def test_tables_are_those_of_the_recipes(page):
    assert TABLES[page], f"{page} has no table of recipes"
    for words, table in TABLES[page]:
        assert table.rstrip("\n") == as_markdown(words.split()), (
            f"the table of {page} is not that of the recipes; put what this command prints between the markers: "
            f"inbatch recipes {words} --markdown"
        )


@pytest.mark.parametrize("page", TABLES)
def test_the_readme_has_the_numbers_of_the_laptop(page):
    (row,) = re.findall(rf"^\|[^|]*\({page}\)[^|]*\|.*$", read("README.md"), re.MULTILINE)
    recipes = dict(listed([method for words, _ in TABLES[page] for method in words.split()]))
    laptop = [recipe.claims for name, recipe in recipes.items() if name.endswith("/cpu-minilm.yaml")]
    claimed = [claims for claims in laptop if "val/sts/STS-B-dev" in claims]
    found = re.findall(r"→ ([\d.]+)", row)
    assert found == [f"{claims['val/sts/STS-B-dev']:.2f}" for claims in claimed]

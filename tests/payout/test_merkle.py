"""RFC 6962's tree: published vectors, and every proof against itself."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.merkle import (
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    tree_root,
    verify_consistency,
    verify_inclusion,
)

# The test data of Certificate Transparency's reference implementation.
DATA = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = (
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)


def leaves(size: int) -> list[bytes]:
    return [leaf_hash(str(number).encode()) for number in range(size)]


def test_the_published_roots_are_met() -> None:
    hashes = [leaf_hash(data) for data in DATA]
    assert [tree_root(hashes[: size + 1]).hex() for size in range(8)] == list(ROOTS)
    assert tree_root([]) == hashlib.sha256().digest()


@given(st.data(), st.integers(1, 70))
def test_every_leaf_is_proved_and_nothing_else_is(data: st.DataObject, size: int) -> None:
    tree = leaves(size)
    index = data.draw(st.integers(0, size - 1))
    proof, root = inclusion_proof(tree, index), tree_root(tree)
    assert verify_inclusion(tree[index], index, size, proof, root)
    assert not verify_inclusion(leaf_hash(b"another"), index, size, proof, root)
    assert not verify_inclusion(tree[index], index, size, [*proof, root], root)
    if proof:
        assert not verify_inclusion(tree[index], index, size, proof[:-1], root)
        place = data.draw(st.integers(0, len(proof) - 1))
        changed = [*proof[:place], leaf_hash(b"x"), *proof[place + 1 :]]
        assert not verify_inclusion(tree[index], index, size, changed, root)


@given(st.data(), st.integers(1, 70))
def test_a_longer_tree_is_proved_to_keep_the_shorter_one(data: st.DataObject, size: int) -> None:
    old_size = data.draw(st.integers(1, size))
    tree = leaves(size)
    old_root, root = tree_root(tree[:old_size]), tree_root(tree)
    proof = consistency_proof(tree, old_size)
    assert verify_consistency(old_size, size, proof, old_root, root)
    forged = tree_root([leaf_hash(b"forged"), *tree[1:old_size]])
    assert not verify_consistency(old_size, size, proof, forged, root)
    assert not verify_consistency(old_size, size, [*proof, root], old_root, root)


def test_a_place_outside_the_tree_is_refused() -> None:
    with pytest.raises(IndexError):
        inclusion_proof(leaves(3), 3)
    with pytest.raises(IndexError):
        consistency_proof(leaves(3), 4)
    assert not verify_inclusion(leaves(3)[0], 3, 3, [], tree_root(leaves(3)))

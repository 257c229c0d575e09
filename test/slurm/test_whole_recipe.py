"""The whole mini recipe on a real cluster."""

import json

from recipes import copy_of_the_recipes, run_recipe


def test_the_whole_recipe_gives_the_results_of_one_machine(idle, mini_recipe, tmp_path):
    """Every stage, of one fold."""
    recipe = copy_of_the_recipes(tmp_path)
    (recipe / "downloads").symlink_to(mini_recipe / "downloads")
    environment = {**idle.environment, "cmd_backend": "slurm"}
    run_recipe(recipe, "--folds", "1", environment=environment)
    assert not idle.jobs()
    assert not list(recipe.glob("**/q"))
    ours, theirs = (json.loads((r / "exp/results.json").read_text()) for r in (recipe, mini_recipe))
    ours, theirs = (
        {r["system"]: r for r in found["results"] if r["fold"] == "1"} for found in (ours, theirs)
    )
    assert len(ours) == 6 and ours == theirs

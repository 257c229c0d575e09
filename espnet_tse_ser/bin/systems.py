"""Print what a set of systems needs, one line a thing with | between, as the recipes read it.

encoder|TAG|CONFIG
encoded|CONFIG|ENCODER
front_end|TAG|SOURCE|COMMAND
file|FRONT_END|PATH
statistics|DIR|CONDITION|FRONT_END|RECOGNISER|CONFIG|FROZEN|MODULES
recogniser|DIR|STATISTICS|CONDITION|FRONT_END|RECOGNISER|CONFIG|FROZEN|TEACHER|NETWORK
joint|DIR|STATISTICS|FRONT_END|RECOGNISER_CONFIG|CONFIG|START
row|SYSTEM|TAG|TEST|FRONT_END|RECOGNISER|KIND|MODEL|FROZEN|RECOGNISER_CONFIG|CONFIGS
preserved|DIR|RECOGNISER_DIR|JOINT_ROW|CLEAN_ROW|NOISY_ROW|DENOISED_ROW|FRONT_END
sweep|NAME|SOURCES

encoder: the pretraining of one; encoded: which of them the configuration of a recogniser or of a
front-end names; ENCODER is a tag.
COMMAND makes a front-end: tse_train, or front_end for a model from elsewhere, whose files here are
on the lines below. FRONT_END and RECOGNISER are tags, empty where there is none; STATISTICS,
TEACHER (empty: none) and START (empty: from scratch) directories of lines above; FROZEN is "frozen"
where a recogniser's SSL front-end does not change in training; NETWORK what it names as model;
MODULES are the files of a user's own classes that its configuration names; KIND is recogniser,
enhancer (one that enhances, too), joint or table, MODEL its directory, or the table; MODULES and
CONFIGS have commas between.
preserved: a joint row, and the rows of a recogniser of clean speech by which its extracted speech
is compared with others. SOURCES is the set that a sweep draws from, empty where it is the usual
one.
"""

import argparse
import os
import sys

from espnet_tse_ser.errors import UserError, run


def get_parser():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--conf_dir", default="conf/systems", help="holds <system>.yaml")
    parser.add_argument("--systems", default="", help="names with a space between; none: all")
    for kind, name in (("tse", "front-end"), ("ser", "recogniser"), ("joint", "joint training")):
        parser.add_argument(
            f"--{kind}_config", required=True, help=f"of the {name}, where a system names none"
        )
        parser.add_argument(f"--{kind}_tag", default="", help="its tag (empty: the config's)")
    parser.add_argument("--mix_tag", default="", help="of another set of mixtures")
    parser.add_argument("--sweeps_dir", default="conf/sweeps", help="holds <name>.yaml")
    parser.add_argument("--sweeps", default="", help="names with a space between; none: none")
    return parser


def main(argv=None):
    args = get_parser().parse_args(argv)
    for line in lines(args):
        if odd := [field for field in line if "|" in field]:
            raise UserError(f"'{odd[0]}': a | is in it, which stands between fields; rename it")
        print("|".join(line))


def lines(args):
    """What is printed, as tuples of texts."""
    from espnet_tse_ser.configuration import chain
    from espnet_tse_ser.frontends.model_files import is_trained, local_files
    from espnet_tse_ser.systems.plan import Joint, Part, Plan, Recogniser
    from espnet_tse_ser.systems.system import choose, read_systems

    systems = read_systems(args.conf_dir)
    defaults = {}
    for kind, source, tag in (
        ("tse", args.tse_config, args.tse_tag),
        ("ser", args.ser_config, args.ser_tag),
        ("joint", args.joint_config, args.joint_tag),
    ):
        defaults[kind] = Part(source, tag) if tag else Part.of(kind, source)
    suffix = f"_{args.mix_tag}" if args.mix_tag else ""
    plan = Plan(choose(systems, args.systems.split()), systems, defaults, suffix)

    def tag(part):
        return part.tag if part else ""

    frozen, modules, networks = {}, {}, {}
    for config in dict.fromkeys(s.recogniser.source for s in plan.statistics):
        frozen[config], modules[config], networks[config] = _described(config)
    trained = [part.source for part in plan.front_ends if is_trained(part.source)]
    yield from _encoders(dict.fromkeys([*trained, *frozen]))

    for joint in plan.joints:
        chain(joint.joint.source)  # what is not there is said at once
    for part in plan.front_ends:
        if is_trained(part.source):
            chain(part.source)
            yield "front_end", part.tag, part.source, "tse_train"
            continue
        yield "front_end", part.tag, part.source, "front_end"
        for path in local_files(part.source):
            yield "file", part.tag, str(path)
    for s in plan.statistics:
        tags = tag(s.front_end), s.recogniser.tag
        config = s.recogniser.source
        described = config, frozen[config], modules[config]
        yield "statistics", s.directory, s.condition, *tags, *described
    for r in plan.recognisers:
        s = r.statistics
        tags = tag(s.front_end), s.recogniser.tag
        described = s.recogniser.source, frozen[s.recogniser.source]
        teacher = r.teacher.directory if r.teacher else ""
        yield (
            "recogniser",
            r.directory,
            s.directory,
            s.condition,
            *tags,
            *described,
            teacher,
            networks[described[0]],
        )
    for j in plan.joints:
        configs = j.recogniser.source, j.joint.source
        start = j.start.directory if j.start else ""
        yield "joint", j.directory, j.statistics.directory, j.front_end.tag, *configs, start
    for p in plan.rows:
        kind = {Recogniser: "recogniser", Joint: "joint"}.get(type(p.model), "table")
        model = p.model if kind == "table" else p.model.directory
        config = p.recogniser.source if kind == "recogniser" else None
        kind = "enhancer" if p.row.system.enhances else kind
        described = p.row.system.test, tag(p.front_end), tag(p.recogniser), kind, model
        described += (frozen[config], config) if config else ("", "")
        yield "row", p.row.system.name, p.row.tag, *described, ",".join(p.sources)
    for preserved in plan.preserved():
        yield "preserved", *preserved
    for name in args.sweeps.split():
        yield "sweep", name, _sources(f"{args.sweeps_dir}/{name}.yaml")


def _described(config):
    """Of a SER configuration, as printed: whether its features do not change in training, the files
    of a user's own classes that it names, and the model."""
    from espnet_tse_ser.configuration import read_configuration
    from espnet_tse_ser.models.build_ser import KINDS
    from espnet_tse_ser.own_classes import find_module, own_classes
    from espnet_tse_ser.recognise.frozen import why_not_frozen

    options = read_configuration(config)
    frozen = "frozen" if why_not_frozen(options, config) is None else ""
    names = own_classes(options, KINDS)
    paths = [find_module(name, options.where(key)) for key, name in names.items()]
    files = ",".join(dict.fromkeys(map(os.path.relpath, paths)))
    return frozen, files, str(options.get("model") or "emotion")


def _encoders(configs):
    """Lines of the encoders that configurations name."""
    from espnet_tse_ser.configuration import chain, read_configuration
    from espnet_tse_ser.recognise.pretrained import pretraining_of
    from espnet_tse_ser.systems.tags import tag_of

    encoders = {}
    for config in configs:
        encoder = pretraining_of(read_configuration(config))
        if encoder is None:
            continue
        chain(encoder)
        tag = tag_of(encoder, "ssl")
        if encoders.setdefault(tag, encoder) != encoder:
            raise UserError(
                f"{config}: '{encoder}' has the tag '{tag}', as '{encoders[tag]}' has; rename one"
            )
        yield "encoded", config, tag
    for tag, encoder in encoders.items():
        yield "encoder", tag, encoder


def _sources(config):
    from espnet_tse_ser.files import read_yaml
    from espnet_tse_ser.values.kinds import Id, Maybe, check_option

    named = read_yaml(config).get("sources")
    return check_option(named, Maybe(Id()), f"{config}: sources") or ""


if __name__ == "__main__":
    sys.exit(run(main))

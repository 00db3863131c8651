#!/usr/bin/env python3
"""Makes the goldens of the weights room with the real libraries.

  make_weights.py [OUT]        OUT: tests/goldens/weights

safetensors.tsv     header and file cases: name, what the safetensors library says, what clipc says, the file in hex
                    ("name*count" repeats a byte string); where the two verdicts differ, clipc is stricter on purpose.
hf_configs.jsonl    config.json files and what transformers resolves them to
open_clip.jsonl     every model config that open_clip ships, and which field clipc refuses ("" = accepted)
preprocess.jsonl    image processor configs and what transformers resolves them to
names.jsonl         the state dicts of tiny models: config, tensor names and shapes
VERSIONS            the libraries that made them

The C tests only read these files; Python is not needed to build or test.
"""
import argparse
import glob
import json
import os
import struct
import tempfile


def write_lines(path, rows):
    with open(path, "w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=True, separators=(",", ":")) + "\n")
    print(f"{path}: {len(rows)} rows")


# ---------------------------------------------------------------- safetensors

def pack(header, data=b"", n=None):
    if isinstance(header, str):
        header = header.encode("utf-8")
    return struct.pack("<Q", len(header) if n is None else n) + header + data


def entry(name="a", dtype="U8", shape="[1]", offsets="[0,1]", extra=""):
    return f'"{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}{extra}}}'


def one(data=b"x", **fields):
    return pack("{" + entry(**fields) + "}", data)


DTYPES = dict(BOOL=8, F4=4, F6_E2M3=6, F6_E3M2=6, U8=8, I8=8, F8_E5M2=8, F8_E4M3=8, F8_E8M0=8, F8_E4M3FNUZ=8,
              F8_E5M2FNUZ=8, I16=16, U16=16, F16=16, BF16=16, I32=32, U32=32, F32=32, C64=64, F64=64, I64=64, U64=64)


def safetensors_cases():
    yield "empty file", b""
    yield "seven bytes", b"\0" * 7
    yield "N = 0", pack("")
    yield "N = 0, a byte behind", pack("", b"x")
    yield "N = 1, brace", pack("{")
    yield "N above the file", pack("{}", n=3)
    yield "N far above the file", pack("{}", n=99999999)
    yield "N = 100000001", pack("{}", n=100000001)
    yield "N = 2^64 - 1", pack("{}", n=2**64 - 1)
    yield "N = 2^64 - 8", pack("{}", n=2**64 - 8)
    yield "N below the header", pack("{}", n=1)
    yield "no tensors", pack("{}")
    yield "no tensors, trailing byte", pack("{}", b"x")
    yield "minimal F32", pack("{" + entry(dtype="F32", offsets="[0,4]") + "}  ", b"\0\0\x80\x3f")
    yield "unaligned F32", pack("{" + entry(dtype="F32", offsets="[0,4]") + "} ", b"\0\0\x80\x3f")
    for name, bits in DTYPES.items():
        yield f"dtype {name}", one(b"\0" * bits, dtype=name, shape="[8]", offsets=f"[0,{bits}]")
    for name in ("f32", "BFLOAT16", "F8_E4M3FN", "F4_E2M1", "I4", "U4", "I2", "F2", "U1", "C128", "", "F32 ", "F16X", "F"):
        yield f"dtype '{name}'", one(b"\0" * 8, dtype=name, offsets="[0,8]")
    yield "F4 odd", one(b"\0\0", dtype="F4", shape="[3]", offsets="[0,2]")
    yield "F4 odd, cut", one(b"\0", dtype="F4", shape="[3]", offsets="[0,1]")
    yield "F6 of 2, cut", one(b"\0", dtype="F6_E2M3", shape="[2]", offsets="[0,1]")
    yield "F6 of 2", one(b"\0\0", dtype="F6_E2M3", shape="[2]", offsets="[0,2]")
    yield "F6 of 4", one(b"\0\0\0", dtype="F6_E3M2", shape="[4]", offsets="[0,3]")
    yield "scalar", one(shape="[]")
    yield "zero size", one(b"", shape="[0]", offsets="[0,0]")
    yield "rank 8", one(shape="[1,1,1,1,1,1,1,1]")
    yield "rank 9", one(shape="[1,1,1,1,1,1,1,1,1]")
    yield "rank 500", one(shape="[" + ",".join(["1"] * 500) + "]")
    yield "shape 0, 2^63, 4", one(b"", shape="[0,9223372036854775808,4]", offsets="[0,0]")
    yield "shape 2^63, 4, 0", one(b"", shape="[9223372036854775808,4,0]", offsets="[0,0]")
    yield "shape 2^63, 2", one(shape="[9223372036854775808,2]")
    yield "shape 2^62 F32", one(dtype="F32", shape="[4611686018427387904]", offsets="[0,4]")
    yield "shape 2^61 U8 bits", one(shape="[2305843009213693952]", offsets="[0,1]")
    yield "shape 2^64 - 1 by 0", one(b"", shape="[18446744073709551615,0]", offsets="[0,0]")
    for text in ("18446744073709551616", "-1", "-0", "1.0", "1e0", "1E0", '"1"', "01", "00", "NaN", "null", "true", "[1]", "+1",
                 "0x1", "1 1", ""):
        yield f"shape [{text}]", one(shape=f"[{text}]")
    yield "shape number", one(shape="1")
    yield "shape null", one(shape="null")
    yield "shape object", one(shape="{}")
    yield "shape trailing comma", one(shape="[1,]")
    yield "shape too large", one(shape="[2]")
    yield "shape too small", one(shape="[1]", offsets="[0,2]", data=b"xx")
    yield "file too short", one(b"", shape="[1]")
    yield "file too long", one(b"xx")
    yield "file far too short", one(b"xx", shape="[100]", offsets="[0,100]")
    for text in ("[0]", "[]", "[0,1,1]", "[1,0]", "[0,1.0]", "[-0,1]", "[0,-1]", '["0",1]', "[0,18446744073709551616]",
                 "null", '{"a":0}', "0,1", "[0,1"):
        yield f"offsets {text}", one(offsets=text)
    yield "hole at the start", one(b"xx", offsets="[1,2]")
    pair = lambda a, b, data: pack("{" + entry("a", offsets=a) + "," + entry("b", offsets=b) + "}", data)
    yield "two tensors", pair("[0,1]", "[1,2]", b"xy")
    yield "two tensors, later first", pair("[1,2]", "[0,1]", b"xy")
    yield "hole in the middle", pair("[0,1]", "[2,3]", b"xyz")
    yield "same range", pair("[0,1]", "[0,1]", b"x")
    yield "overlap", pack("{" + entry("a", shape="[2]", offsets="[0,2]") + "," + entry("b", shape="[2]", offsets="[1,3]") + "}", b"xyz")
    zero = lambda name, at: entry(name, shape="[0]", offsets=f"[{at},{at}]")
    yield "zeros between", pack("{" + ",".join([entry("a"), zero("z", 1), zero("y", 1), entry("b", offsets="[1,2]"), zero("x", 0), zero("w", 2)]) + "}", b"xy")
    yield "zero inside another", pack("{" + entry("a", shape="[2]", offsets="[0,2]") + "," + zero("z", 1) + "}", b"xy")
    yield "zero beyond the end", pack("{" + entry("a") + "," + zero("z", 2) + "}", b"x")
    yield "duplicate name, last covers", pack("{" + entry("a", offsets="[5,6]") + "," + entry("a") + "}", b"x")
    yield "duplicate name, same", pack("{" + entry("a") + "," + entry("a") + "}", b"x")
    yield "duplicate name by escape", pack("{" + entry("a") + "," + entry("\\u0061") + "}", b"x")
    yield "duplicate name, first covers", pack("{" + entry("a") + "," + entry("a", offsets="[5,6]") + "}", b"x")
    yield "entry as array", pack('{"a":["U8",[1],[0,1]]}', b"x")
    yield "entry null", pack('{"a":null}')
    yield "entry number", pack('{"a":1}')
    yield "dtype as object", pack('{"a":{"dtype":{"U8":null},"shape":[1],"data_offsets":[0,1]}}', b"x")
    yield "dtype number", pack('{"a":{"dtype":3,"shape":[1],"data_offsets":[0,1]}}', b"x")
    for field in ("dtype", "shape", "data_offsets"):
        fields = {"dtype": '"U8"', "shape": "[1]", "data_offsets": "[0,1]"}
        twice = fields[field]
        text = ",".join(f'"{k}":{v}' for k, v in fields.items())
        yield f"{field} twice", pack('{"a":{' + text + f',"{field}":{twice}' + "}}", b"x")
        del fields[field]
        yield f"{field} missing", pack('{"a":{' + ",".join(f'"{k}":{v}' for k, v in fields.items()) + "}}", b"x")
    yield "fields reordered", pack('{"a":{"data_offsets":[0,1],"shape":[1],"dtype":"U8"}}', b"x")
    yield "field by escape", pack('{"a":{"dty\\u0070e":"U8","shape":[1],"data_offsets":[0,1]}}', b"x")
    yield "empty entry", pack('{"a":{}}')
    yield "unknown field", one(extra=',"x":1')
    yield "unknown field, tree", one(extra=',"x":{"y":[1,-2.5e3,"s",null,true,false,{}]}')
    yield "unknown field, broken number", one(extra=',"x":1.')
    yield "unknown field, bare word", one(extra=',"x":nul')
    yield "unknown field, Infinity", one(extra=',"x":Infinity')
    yield "unknown field, lone surrogate", one(extra=',"x":"\\ud800"')
    for depth in (125, 126, 200):
        yield f"unknown field, depth {depth}", one(extra=',"x":' + "[" * depth + "]" * depth)
    yield "metadata", pack('{"__metadata__":{"format":"pt"},' + entry() + "}", b"x")
    yield "metadata last", pack("{" + entry() + ',"__metadata__":{"format":"pt"}}', b"x")
    yield "metadata alone", pack('{"__metadata__":{"format":"pt"}}')
    yield "metadata empty", pack('{"__metadata__":{}}')
    yield "metadata null", pack('{"__metadata__":null}')
    yield "metadata twice", pack('{"__metadata__":{},"__metadata__":{}}')
    yield "metadata twice, null", pack('{"__metadata__":null,"__metadata__":null}')
    yield "metadata key twice", pack('{"__metadata__":{"a":"b","a":"c"}}')
    for text in ("1", "null", "{}", "[]", "true", "1.5"):
        yield f"metadata value {text}", pack('{"__metadata__":{"a":' + text + "}}")
    for text in ("[]", "1", '"x"', "true"):
        yield f"metadata {text}", pack('{"__metadata__":' + text + "}")
    yield "metadata by escape", pack('{"__metad\\u0061ta__":{"a":"b"}}')
    for text in ("[]", "null", "1", '""', "true", "{} {}", "{},", "{}x", "{", "}", "{]", "", " "):
        yield f"top level '{text}'", pack(text)
    yield "leading spaces", pack(" \n\t\r{" + entry() + "}", b"x")
    yield "trailing white space", pack("{" + entry() + "} \t\n\r", b"x")
    yield "padding of NULs", pack("{" + entry() + "}\0\0", b"x")
    yield "vertical tab", pack("{" + entry() + "}\v", b"x")
    yield "BOM", pack("\ufeff{" + entry() + "}", b"x")
    yield "comment", pack("{" + entry() + "}/**/", b"x")
    yield "trailing comma", pack("{" + entry() + ",}", b"x")
    yield "leading comma", pack("{," + entry() + "}", b"x")
    yield "missing comma", pack("{" + entry("a") + entry("b", offsets="[1,2]") + "}", b"xy")
    yield "missing colon", pack('{"a" {}}')
    yield "single quotes", pack("{'a':{}}")
    yield "bare key", pack("{a:{}}")
    yield "end in a name", pack('{"a')
    yield "end in an escape", pack('{"a\\')
    yield "end in \\u", pack('{"a\\u00')
    for name in ("", "\\u0000", "a\\u0000b", "\\ud83d\\ude00", "\\uD83D\\uDE00", "\\u00e9", "\u00e9\u4e2d\U0001f600", "\\/", "\\b\\f\\n\\r\\t\\\"\\\\",
                 "x" * 300, "..", "a/b", "\u007f", "\\u001f", "\ufffe"):
        yield f"name {name[:20]!r}", one(name=name)
    for name in ("\\ud800", "\\udc00", "\\ud800\\ud800", "\\ud800x", "\\ud800\\n", "\\u12", "\\u12g4", "\\x41", "\\'", "\\U0041", "\t", "\n",
                 "\x01", "\x1f", "\0"):
        yield f"bad name {name!r}", one(name=name)
    for bad in (b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc3", b"\x80", b"\xe2\x82"):
        raw = ("{" + entry("@") + "}").encode().replace(b"@", bad)
        yield f"not UTF-8: {bad.hex()}", pack(raw, b"x")


# refused by clipc although the library reads them: a meaning that depends on the reader
STRICTER = {"entry as array", "dtype as object", "duplicate name, last covers", "duplicate name, same", "duplicate name by escape"}


def make_safetensors(out):
    import safetensors
    from safetensors import deserialize, safe_open

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "x.safetensors")
        for name, data in safetensors_cases():
            with open(path, "wb") as file:
                file.write(data)
            verdicts = []
            for read in (lambda: deserialize(data), lambda: safe_open(path, "np").keys()):
                try:
                    read()
                    verdicts.append(True)
                except Exception as error:
                    assert "Safetensor" in type(error).__name__ or "afetensor" in str(error) or isinstance(error, OSError), error
                    verdicts.append(False)
            if data and verdicts[0] != verdicts[1]:
                raise SystemExit(f"{name}: deserialize says {verdicts[0]}, safe_open {verdicts[1]}")
            ours = verdicts[0] and name not in STRICTER
            if name in STRICTER and not verdicts[0]:
                print("not stricter after all:", name)
            rows.append((name, verdicts[0], ours, data))
    names = [row[0] for row in rows]
    assert len(set(names)) == len(names)
    with open(os.path.join(out, "safetensors.tsv"), "w", encoding="ascii") as file:
        for name, theirs, ours, data in rows:
            clean = name.encode("ascii", "backslashreplace").decode()
            file.write(f"{clean}\t{int(theirs)}\t{int(ours)}\t{data.hex()}\n")
    print(f"safetensors.tsv: {len(rows)} rows, {sum(r[1] for r in rows)} accepted by the library {safetensors.__version__}")


# ---------------------------------------------------------------- Hugging Face configs

def hf_cases():
    text = dict(hidden_size=64, intermediate_size=100, num_hidden_layers=3, num_attention_heads=4, vocab_size=1000, max_position_embeddings=20)
    vision = dict(hidden_size=96, intermediate_size=200, num_hidden_layers=2, num_attention_heads=6, image_size=48, patch_size=16)
    yield "empty clip", {"model_type": "clip"}
    yield "nulls", {"model_type": "clip", "text_config": None, "vision_config": None, "text_config_dict": None, "vision_config_dict": None}
    yield "plain", {"model_type": "clip", "projection_dim": 32, "text_config": text, "vision_config": vision}
    yield "sub projection ignored", {"model_type": "clip", "text_config": dict(text, projection_dim=7), "vision_config": dict(vision, projection_dim=8)}
    yield "empty text_config_dict resets", {"model_type": "clip", "text_config": dict(text, eos_token_id=2, hidden_act="gelu"), "text_config_dict": {}}
    yield "empty vision_config_dict resets", {"model_type": "clip", "vision_config": vision, "vision_config_dict": {}}
    yield "dicts override", {"model_type": "clip", "text_config": dict(text, hidden_act="gelu"), "vision_config": vision,
                             "text_config_dict": dict(hidden_size=128, eos_token_id=2), "vision_config_dict": dict(hidden_size=192, patch_size=14)}
    yield "null dicts do not", {"model_type": "clip", "text_config": text, "vision_config": vision, "text_config_dict": None, "vision_config_dict": None}
    for act in ("quick_gelu", "gelu", "gelu_pytorch_tanh", "gelu_new"):
        yield f"act {act}", {"model_type": "clip", "text_config": dict(text, hidden_act=act), "vision_config": dict(vision, hidden_act=act)}
    for eos in (2, 7, 49407):
        yield f"eos {eos}", {"model_type": "clip", "text_config": dict(text, eos_token_id=eos, bos_token_id=0, pad_token_id=1)}
    yield "eps", {"model_type": "clip", "text_config": dict(text, layer_norm_eps=1e-6), "vision_config": dict(vision, layer_norm_eps=1e-3)}
    yield "hub B/32", {"architectures": ["CLIPModel"], "initializer_factor": 1.0, "logit_scale_init_value": 2.6592, "model_type": "clip",
                       "projection_dim": 512, "text_config": dict(bos_token_id=0, eos_token_id=2, pad_token_id=1, hidden_act="quick_gelu",
                       dropout=0.0, model_type="clip_text_model", hidden_size=512, intermediate_size=2048, num_attention_heads=8, num_hidden_layers=12),
                       "vision_config": dict(model_type="clip_vision_model", hidden_size=768, patch_size=32, image_size=224), "torch_dtype": "float32"}
    yield "text alone", dict(text, model_type="clip_text_model", architectures=["CLIPTextModel"], projection_dim=24)
    yield "text with projection", dict(text, model_type="clip_text_model", architectures=["CLIPTextModelWithProjection"], projection_dim=24)
    yield "vision alone", dict(vision, model_type="clip_vision_model", architectures=["CLIPVisionModel"])
    yield "vision with projection", dict(vision, model_type="clip_vision_model", architectures=["CLIPVisionModelWithProjection"], projection_dim=40)
    yield "text defaults", {"model_type": "clip_text_model", "architectures": ["CLIPTextModelWithProjection"]}
    yield "vision defaults", {"model_type": "clip_vision_model", "architectures": ["CLIPVisionModelWithProjection"]}


def make_hf(out):
    from transformers import CLIPConfig, CLIPTextConfig, CLIPVisionConfig

    def numbers(config):
        keys = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "hidden_act", "layer_norm_eps",
                "vocab_size", "max_position_embeddings", "eos_token_id", "image_size", "patch_size")
        return {key: getattr(config, key) for key in keys if hasattr(config, key)}

    rows = []
    for name, config in hf_cases():
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "config.json"), "w") as file:
                json.dump(config, file)
            kind = {"clip": CLIPConfig, "clip_text_model": CLIPTextConfig, "clip_vision_model": CLIPVisionConfig}[config["model_type"]]
            read = kind.from_pretrained(folder)
        expect = {}
        if kind is CLIPConfig:
            expect = {"text": numbers(read.text_config), "vision": numbers(read.vision_config), "embedding": read.projection_dim}
        else:
            projection = "WithProjection" in config["architectures"][0]
            expect = {"text" if kind is CLIPTextConfig else "vision": numbers(read),
                      "embedding": read.projection_dim if projection else read.hidden_size}
        rows.append({"name": name, "config": config, "expect": expect})
    write_lines(os.path.join(out, "hf_configs.jsonl"), rows)


# ---------------------------------------------------------------- open_clip configs

def open_clip_refusal(config):
    """The field that clipc names, by its documented rules; the C test holds it to this."""
    vision, text = config["vision_cfg"], config["text_cfg"]
    if config.get("multimodal_cfg"):
        return "multimodal_cfg"
    if vision.get("timm_model_name"):
        return "timm_model_name"
    if isinstance(vision.get("layers"), list):
        return "layers"
    for key in ("attentional_pool",):
        if vision.get(key):
            return key
    if vision.get("ls_init_value") is not None:
        return "ls_init_value"
    if text.get("hf_model_name"):
        return "hf_model_name"
    if text.get("embed_cls"):
        return "embed_cls"
    return ""


def make_open_clip(out):
    import open_clip
    from open_clip.model import CLIPTextCfg, CLIPVisionCfg

    rows = []
    folder = os.path.join(os.path.dirname(open_clip.__file__), "model_configs")
    for path in sorted(glob.glob(os.path.join(folder, "*.json"))):
        with open(path) as file:
            config = json.load(file)
        refused = open_clip_refusal(config)
        row = {"name": os.path.basename(path)[:-5], "model_cfg": config, "refused": refused}
        if not refused:
            vision, text = CLIPVisionCfg(**config["vision_cfg"]), CLIPTextCfg(**config["text_cfg"])
            row["expect"] = {
                "embedding": config["embed_dim"],
                "vision": [vision.width, vision.layers, vision.width // vision.head_width, int(vision.width * vision.mlp_ratio),
                           vision.image_size, vision.patch_size],
                "text": [text.width, text.layers, text.heads, int(text.width * text.mlp_ratio), text.vocab_size, text.context_length],
            }
        rows.append(row)
    write_lines(os.path.join(out, "open_clip.jsonl"), rows)
    print("accepted:", sum(not row["refused"] for row in rows))


# ---------------------------------------------------------------- image processors

def preprocess_cases():
    yield {}
    yield {"image_processor_type": "CLIPImageProcessor", "size": 224, "crop_size": 224}
    yield {"feature_extractor_type": "CLIPFeatureExtractor", "size": 224, "crop_size": 224, "resample": 3}
    yield {"image_processor_type": "CLIPImageProcessorFast", "size": {"shortest_edge": 336}, "crop_size": {"height": 336, "width": 336}}
    yield {"size": {"height": 100, "width": 80}, "do_center_crop": False}
    yield {"size": {"height": 100, "width": 80}, "do_center_crop": None, "crop_size": None}
    yield {"size": [50, 60], "do_center_crop": False}
    yield {"size": {"shortest_edge": 256}, "crop_size": 240, "resample": 2}
    yield {"size": {"shortest_edge": 256}, "crop_size": [240, 200], "resample": 1}
    yield {"size": 64, "crop_size": 64, "default_to_square": True}
    yield {"do_resize": False, "size": None, "crop_size": 96}
    yield {"do_resize": None, "crop_size": 96}
    yield {"do_rescale": False, "do_normalize": False}
    yield {"do_rescale": True, "rescale_factor": 0.5, "image_mean": [0.5, 0.25, 0.125], "image_std": [1.0, 2.0, 4.0]}
    yield {"image_mean": 0.5, "image_std": 0.25}
    yield {"do_normalize": None, "image_mean": None, "image_std": None}
    yield {"resample": 0}
    yield {"resample": 5}


def make_preprocess(out):
    from transformers import CLIPImageProcessorPil

    rows = []
    for config in preprocess_cases():
        read = CLIPImageProcessorPil.from_dict(dict(config)).to_dict()
        keys = ("do_resize", "size", "resample", "do_center_crop", "crop_size", "do_rescale", "rescale_factor", "do_normalize",
                "image_mean", "image_std")
        expect = {key: read.get(key) for key in keys}
        expect = json.loads(json.dumps(expect, default=lambda v: {k: x for k, x in dict(v).items() if x is not None}))
        rows.append({"config": config, "expect": expect})
    write_lines(os.path.join(out, "preprocess.jsonl"), rows)


# ---------------------------------------------------------------- tensor names

def make_names(out):
    import open_clip
    from transformers import (CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPVisionConfig,
                              CLIPVisionModel, CLIPVisionModelWithProjection)
    from safetensors import safe_open

    text = dict(hidden_size=8, intermediate_size=12, num_hidden_layers=2, num_attention_heads=2, vocab_size=20, max_position_embeddings=5, projection_dim=4)
    vision = dict(hidden_size=12, intermediate_size=20, num_hidden_layers=3, num_attention_heads=3, image_size=9, patch_size=4, projection_dim=4)
    rows = []

    def saved(folder, name):
        with safe_open(os.path.join(folder, name), "np") as file:
            return {key: list(file.get_slice(key).get_shape()) for key in file.keys()}

    for name, model in (("CLIPModel", CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=4))),
                        ("CLIPTextModel", CLIPTextModel(CLIPTextConfig(**text))),
                        ("CLIPTextModelWithProjection", CLIPTextModelWithProjection(CLIPTextConfig(**text))),
                        ("CLIPVisionModel", CLIPVisionModel(CLIPVisionConfig(**vision))),
                        ("CLIPVisionModelWithProjection", CLIPVisionModelWithProjection(CLIPVisionConfig(**vision)))):
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            with open(os.path.join(folder, "config.json")) as file:
                config = json.load(file)
            rows.append({"name": name, "file": "config.json", "config": config, "tensors": saved(folder, "model.safetensors")})
    # 4.x wrote single towers with the prefix, and position_ids
    for name, prefix in (("CLIPTextModel", "text_model."), ("CLIPVisionModel", "vision_model.")):
        row = next(r for r in rows if r["name"] == name)
        tensors = {prefix + key: shape for key, shape in row["tensors"].items()}
        tensors[prefix + "embeddings.position_ids"] = [1, 5]
        rows.append(dict(row, name=name + ", prefixed", tensors=tensors))

    v = dict(width=16, layers=2, head_width=8, mlp_ratio=4.3637, patch_size=4, image_size=[8, 12])
    t = dict(width=8, layers=3, heads=2, vocab_size=20, context_length=5)
    for name, extra in (("CLIP", {}), ("CLIP, bias", {"init_logit_bias": -10}),
                        ("CLIP, no_ln_pre", {"vision_cfg": dict(v, no_ln_pre=True, pool_type="avg", final_ln_after_pool=True)}),
                        ("CustomTextCLIP", {"custom_text": True}),
                        ("CustomTextCLIP, proj_bias", {"custom_text": True, "text_cfg": dict(t, proj_bias=True, no_causal_mask=True, pool_type="last")}),
                        ("CLIP, proj_bias", {"text_cfg": dict(t, proj_bias=True)}),
                        ("CustomTextCLIP, no projection", {"custom_text": True, "embed_dim": 8, "text_cfg": dict(t, proj_type="none")})):
        config = dict(dict(embed_dim=6, vision_cfg=v, text_cfg=t), **extra)
        custom = config.get("custom_text", False)
        kwargs = {key: value for key, value in config.items() if key != "custom_text"}
        model = (open_clip.CustomTextCLIP if custom else open_clip.CLIP)(**json.loads(json.dumps(kwargs)))
        tensors = {key: list(value.shape) for key, value in model.state_dict().items()}
        rows.append({"name": name, "file": "open_clip_config.json", "config": {"model_cfg": config, "preprocess_cfg": {}}, "tensors": tensors})

    # OpenAI's checkpoints have no config: the network as open_clip infers it from the tensors
    import torch
    openai = open_clip.CLIP(embed_dim=32, vision_cfg=dict(width=128, layers=2, patch_size=8, image_size=24),
                            text_cfg=dict(width=64, heads=1, layers=3, vocab_size=20, context_length=5), quick_gelu=True)
    state = dict(openai.state_dict())
    for key, value in (("input_resolution", 24), ("context_length", 5), ("vocab_size", 20)):
        state[key] = torch.tensor(value)
    shapes = {key: list(value.shape) for key, value in state.items()}
    built = open_clip.model.build_model_from_openai_state_dict(dict(state), cast_dtype=torch.float32)
    block = built.visual.transformer.resblocks[0]
    expect = {"image_size": built.visual.image_size[0], "heads": [block.attn.num_heads, built.transformer.resblocks[0].attn.num_heads],
              "quick_gelu": type(block.mlp.gelu).__name__ == "QuickGELU", "layers": [len(built.visual.transformer.resblocks), len(built.transformer.resblocks)]}
    rows.append({"name": "OpenAI", "file": "", "config": {}, "tensors": shapes, "expect": expect})
    write_lines(os.path.join(out, "names.jsonl"), rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "weights"))
    out = parser.parse_args().out
    os.makedirs(out, exist_ok=True)
    from importlib.metadata import version
    with open(os.path.join(out, "VERSIONS"), "w") as file:
        for package in ("safetensors", "transformers", "open_clip_torch", "torch"):
            file.write(f"{package} {version(package)}\n")
    make_safetensors(out)
    make_hf(out)
    make_open_clip(out)
    make_preprocess(out)
    make_names(out)


if __name__ == "__main__":
    main()

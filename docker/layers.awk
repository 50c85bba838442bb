# Splits the locks into the layers of an image, in the order in which they are installed:
#
#   awk -v variant=gpu -f layers.awk requirements.txt project.txt
#
# uv.txt     the installer, which stays outside the image
# large.txt  torch or TensorFlow with CUDA, and what else is large: 9/10 of an image. The four torch projects lock these alike,
#            so the file is the same byte for byte, what installs it has the same cache key, and docker keeps one layer for all.
# rest.txt   what a project needs besides; nothing that only its tests need
BEGIN {
    if (variant !~ /^(gpu|cpu)?$/) { print "VARIANT=" variant ": choose gpu or cpu" > "/dev/stderr"; exit 1 }
    cuda = variant == "cpu" ? "/dev/null" : "large.txt"
    plain = variant == "cpu" ? "large.txt" : "/dev/null"
}
/^ *#/ { next }  # who asked for a package differs between projects
/^[a-z0-9]/ { file = "rest.txt" }
/^(torch|torchvision|triton|tensorflow)==/ || /^(cuda|nvidia)-/ { file = cuda }
/^(fonttools|grpcio|matplotlib|networkx|pillow|scikit-learn|scipy|sympy|tensorboard|tensorboard-data-server)==/ { file = "large.txt" }
/^tensorflow-cpu==/ { file = plain }
/^uv==/ { file = "uv.txt" }
/^(coverage|iniconfig|pluggy|pytest|pytest-cov)==/ { file = "/dev/null" }
{ print > file }

# The commands that people type. `just` alone lists them.

_list:
    @just --list --unsorted

# Show the product with made-up accounts on this machine
demo:
    cargo run --example demo

# Run the tests
test *arguments:
    cargo test --workspace {{arguments}}

# Check everything that must hold before a change lands
check:
    .ci/run

# Measure what a launch, `list` and a refresh cost
bench *arguments:
    cargo bench -- {{arguments}}

# Draw the picture and the recording in README again
picture:
    UPDATE_PICTURE=1 cargo test --test picture

# Build and install both programs for this user
install:
    sh install.sh

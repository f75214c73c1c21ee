/* The least that stands between a shell and a program: one exec. Its added time is the unit of the benchmark. */
#include <unistd.h>
extern char **environ;
int main(int argc, char **argv) {
    (void)argc;
    execve(TARGET, argv, environ);
    return 127;
}

/* Pyxis' options for the lab's Slurm: --container-image and its companions, on an image that is a folder.

   An image is IMAGES/NAME, with `/`, `#` and `:` in NAME written as `+`. It holds `binds` (host paths that make up its root, one
   a line, or SRC:DST) and `environment` (NAME=VALUE lines; they win over the job's, as an image's do in Pyxis). A step gets a mount namespace of
   its own with a fresh root: the image's binds, then --container-mounts, then chroot. Nothing else of the host is seen.

   cc -shared -fPIC -o container.so container.c; plugstack.conf: required container.so IMAGES */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <slurm/spank.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

SPANK_PLUGIN(container, 1);

static char image[4096], mounts[32768], workdir[4096] = "/";

static int set_image(int v, const char *arg, int r) { return snprintf(image, sizeof image, "%s", arg) < 0; }
static int set_mounts(int v, const char *arg, int r) { return snprintf(mounts, sizeof mounts, "%s", arg) < 0; }
static int set_workdir(int v, const char *arg, int r) { return snprintf(workdir, sizeof workdir, "%s", arg) < 0; }
static int accept_it(int v, const char *arg, int r) { return 0; }

struct spank_option spank_options[] = {
    {"container-image", "[USER@][REGISTRY#]IMAGE[:TAG]", "the lab's image", 1, 0, set_image},
    {"container-mounts", "SRC:DST[:ro],...", "bind mounts", 1, 0, set_mounts},
    {"container-workdir", "PATH", "working directory", 1, 0, set_workdir},
    {"no-container-mount-home", NULL, "no home", 0, 0, accept_it},
    {"no-container-entrypoint", NULL, "no entry point", 0, 0, accept_it},
    SPANK_OPTIONS_TABLE_END};

static int fail(const char *what, const char *path) {
  slurm_error("container: %s %s: %s", what, path, strerror(errno));
  return -1;
}

/* Bind `source` at root/target; folders and files are made as needed. */
static int bind_at(const char *root, const char *source, const char *target, int read_only) {
  char path[8192];
  struct stat found;
  if (lstat(source, &found)) return fail("mount source", source);
  snprintf(path, sizeof path, "%s%s", root, target);
  for (char *p = path + strlen(root) + 1; (p = strchr(p, '/')); p++) *p = 0, mkdir(path, 0755), *p = '/';
  if (S_ISLNK(found.st_mode)) { /* /bin -> usr/bin */
    char to[4096];
    ssize_t n = readlink(source, to, sizeof to - 1);
    return to[n < 0 ? 0 : n] = 0, symlink(to, path) && errno != EEXIST ? fail("link", path) : 0;
  }
  if (S_ISDIR(found.st_mode)) mkdir(path, 0755);
  else { FILE *f = fopen(path, "a"); if (f) fclose(f); }
  if (mount(source, path, NULL, MS_BIND | MS_REC, NULL)) return fail("mount", path);
  if (read_only && mount(NULL, path, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL)) return fail("remount read-only", path);
  return 0;
}

static FILE *open_in(const char *folder, const char *name) {
  char path[8192];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  return fopen(path, "r");
}

int slurm_spank_task_init_privileged(spank_t sp, int ac, char **av) {
  char folder[8192], root[8192], line[8192], *save = NULL;
  if (!image[0]) return 0;
  int n = snprintf(folder, sizeof folder, "%s/", av[0]);
  snprintf(folder + n, sizeof folder - n, "%s", image);
  for (char *p = folder + n; *p; p++) if (strchr("/#:", *p)) *p = '+';
  FILE *binds = open_in(folder, "binds"), *env = open_in(folder, "environment");
  if (!binds || !env) return fail("failed to import docker image", image);
  snprintf(root, sizeof root, "%s/root", av[0]);
  mkdir(root, 0755);
  if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL)) return fail("unshare", "mount namespace");
  if (mount("tmpfs", root, "tmpfs", 0, NULL)) return fail("tmpfs", root);
  while (fgets(line, sizeof line, binds)) {
    line[strcspn(line, "\n")] = 0;
    char *target = strchr(line, ':');
    if (target) *target++ = 0;
    if (bind_at(root, line, target ? target : line, 0)) return -1;
  }
  for (char *m = strtok_r(mounts, ",", &save); m; m = strtok_r(NULL, ",", &save)) {
    char *source = strsep(&m, ":"), *target = strsep(&m, ":");
    if (!target) return errno = EINVAL, fail("--container-mounts", source);
    if (bind_at(root, source, target, m && !strcmp(m, "ro"))) return -1;
  }
  while (fgets(line, sizeof line, env)) {
    line[strcspn(line, "\n")] = 0;
    char *value = strchr(line, '=');
    if (value) *value = 0, spank_setenv(sp, line, value + 1, 1);
  }
  snprintf(line, sizeof line, "%s/tmp", root);
  mkdir(line, 01777);
  return chroot(root) ? fail("chroot", root) : 0;
}

int slurm_spank_task_init(spank_t sp, int ac, char **av) {
  return image[0] && chdir(workdir) ? fail("chdir", workdir) : 0;
}

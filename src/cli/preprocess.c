/* clipc preprocess and clipc decode: one picture, looked at before the network sees it.
 * In: a picture file. Out: the image tower's input as .npy, or the decoded picture as PPM. */
#include "cli/inputs.h"
#include "cli/options.h"
#include "cli/writers.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { IMAGE = CLI_OWN, OUT };

static const struct cli_option own_options[] = {
    {IMAGE, 'i', "image", "FILE", "the picture"},
    {OUT, 'o', "out", "FILE", "where to write; - is stdout"},
    {0},
};

struct request {
  const char *image, *out;
  struct cli_model_options model;
};

static bool own_option(const struct cli_command *command, void *context, int id, const char *value) {
  struct request *request = context;
  if (id == IMAGE && request->image != NULL) {
    cli_usage_error(command, "%s takes one picture: %s or %s", command->name, request->image, value);
    return false;
  }
  switch (id) {
  case IMAGE: request->image = value; return true;
  case OUT: request->out = value; return true;
  default: cli_usage_error(command, "what is \"%s\"? A picture is given as --image FILE", value); return false;
  }
}

/* Reads the command line of both commands. Returns CLI_PARSED, or the exit code. */
static int parse(struct request *request, const struct cli_command *command, int argc, char **argv) {
  *request = (struct request){0};
  int code = cli_parse(command, argc, argv, &request->model, own_option, request);
  if (code != CLI_PARSED) return code;
  if (request->image == NULL) return cli_usage_error(command, "%s needs a picture: --image FILE", command->name);
  if (request->out == NULL) return cli_usage_error(command, "%s needs a file to write: -o FILE", command->name);
  if (strcmp(request->out, "-") == 0 && isatty(STDOUT_FILENO))
    return cli_usage_error(command, "a terminal cannot show the result: give -o FILE");
  return CLI_PARSED;
}

static int run_preprocess(const struct cli_command *command, int argc, char **argv) {
  struct request request;
  int code = parse(&request, command, argc, argv);
  if (code != CLI_PARSED) return code;
  clipc_model *model;
  if (!cli_model_open(&model, command, &request.model, CLIPC_TOWER_IMAGE)) return CLI_FAILED;
  const size_t height = (size_t)clipc_image_height(model), width = (size_t)clipc_image_width(model);
  float *pixels = cli_allocate(3 * height * width, sizeof *pixels);
  clipc_image image = clipc_image_path(request.image);
  clipc_error error = {0};
  struct cli_output output;
  if (clipc_preprocess(model, &image, pixels, &error) != CLIPC_OK) {
    cli_complain_of_image(request.image, &error);
    code = CLI_ITEM_FAILED;
  } else if (!cli_output_open(&output, request.out)) {
    code = CLI_FAILED;
  } else {
    cli_npy_header(&output, (const size_t[]){1, 3, height, width}, 4);
    cli_floats(&output, pixels, 3 * height * width);
    code = cli_output_close(&output, true) ? CLI_OK : CLI_FAILED;
  }
  free(pixels);
  clipc_model_close(model);
  return code;
}

static int run_decode(const struct cli_command *command, int argc, char **argv) {
  struct request request;
  int code = parse(&request, command, argc, argv);
  if (code != CLI_PARSED) return code;
  clipc_picture picture;
  clipc_image image = clipc_image_path(request.image);
  clipc_error error = {0};
  struct cli_output output;
  if (clipc_decode(&picture, &image, &request.model.options, &error) != CLIPC_OK) {
    cli_complain_of_image(request.image, &error);
    return CLI_ITEM_FAILED;
  }
  code = CLI_FAILED;
  if (cli_output_open(&output, request.out)) {
    cli_print(&output, "P6\n%d %d\n255\n", picture.width, picture.height);
    cli_write(&output, picture.rgb, (size_t)picture.height * (size_t)picture.width * 3);
    if (cli_output_close(&output, true)) code = CLI_OK;
  }
  clipc_picture_free(&picture);
  return code;
}

const struct cli_command cli_preprocess = {
    .name = "preprocess",
    .summary = "a picture to the pixels that the network sees",
    .usage = "-m DIR --image FILE -o OUT.npy",
    .details = "Writes float32 [1, 3, height, width]: resized, cropped and normalised as the reference does it.\n",
    .examples = "clipc preprocess -m models/tiny --image cat.jpg -o cat.npy\n"
                "clipc preprocess -m models/tiny --reference hf-tv --image cat.jpg -o cat.npy\n",
    .options = own_options,
    .groups = CLI_TAKES_MODEL | CLI_TAKES_PICTURES,
    .run = run_preprocess,
};

const struct cli_command cli_decode = {
    .name = "decode",
    .summary = "a picture file to plain RGB (PPM)",
    .usage = "--image FILE -o OUT.ppm",
    .details = "The picture as Pillow's convert(\"RGB\") gives it: transparency dropped, EXIF orientation left alone\n"
               "unless --exif is given, the first frame of an animation.\n",
    .examples = "clipc decode --image cat.jpg -o cat.ppm\n"
                "clipc decode --image cat.gif -o - | cmp - expected.ppm\n",
    .options = own_options,
    .groups = CLI_TAKES_PICTURES,
    .run = run_decode,
};

/* clipc inspect: what a model is, how its pictures are prepared, its fingerprint; and the tensors of a folder.
 * In: a model folder or a packed file. Out: aligned lines for people, or one JSON object. */
#include "cli/hub.h"
#include "cli/options.h"
#include "cli/writers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FORMAT = CLI_OWN, TENSORS, TOWER };

enum { LINES, JSON };
static const char *const formats[] = {"lines", "json", NULL};

static const struct cli_option own_options[] = {
    {TENSORS, 0, "tensors", NULL,
     "every tensor of the folder too: type, shape, range, norm; what is not used, what is not a number"},
    {TOWER, 0, "tower", "NAME", "look at one tower alone: image or text [all]"},
    {FORMAT, 'f', "format", "NAME", "lines or json [lines]"},
    {0},
};

static const char *const towers[] = {"all", "image", "text", NULL};
static const char *const resize_names[] = {"none", "shortest", "exact", "longest"};
static const char *const filter_names[] = {"nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"};

static const char *towers_of(const clipc_model *model) {
  static const char *const names[] = {"none", "image", "text", "image and text"};
  return names[clipc_towers(model) & 3];
}

/* A size as "224" or, where the sides differ, "336 x 224" (width x height). */
static const char *size_text(char out[32], int height, int width) {
  if (height == width) {
    snprintf(out, 32, "%d", height);
  } else {
    snprintf(out, 32, "%d x %d", width, height);
  }
  return out;
}

static void print_floats(struct cli_output *output, const char *name, const float values[3]) {
  cli_print(output, "%-17s", name);
  for (int i = 0; i < 3; i++) {
    cli_print(output, i > 0 ? " " : "");
    cli_json_float(output, values[i]);
  }
  cli_print(output, "\n");
}

static void print_resize(struct cli_output *output, const clipc_preprocessing *p) {
  char size[32];
  size_text(size, p->resize_height, p->resize_width);
  switch (p->resize) {
  case CLIPC_RESIZE_NONE: cli_print(output, "  resize         none\n"); return;
  case CLIPC_RESIZE_SHORTEST: cli_print(output, "  resize         shorter side to %s", size); break;
  case CLIPC_RESIZE_EXACT: cli_print(output, "  resize         both sides to %s, aspect ignored", size); break;
  case CLIPC_RESIZE_LONGEST: cli_print(output, "  resize         longer side to %s, then padded", size); break;
  }
  cli_print(output, ", %s\n", filter_names[p->filter]);
  if (p->resize == CLIPC_RESIZE_LONGEST) {
    cli_print(output, "  padding        %d %d %d\n", p->fill[0], p->fill[1], p->fill[2]);
  }
}

static void print_preprocessing(struct cli_output *output, const clipc_preprocessing *p) {
  char size[32];
  cli_print(output, "pixels\n  reference      %s\n", cli_reference_name(p->reference));
  if (p->reference != CLIPC_REFERENCE_OPENAI) {
    cli_print(output, "  transparency   %s\n", p->alpha == CLIPC_ALPHA_WHITE ? "on white" : "dropped");
  } else {
    cli_print(output, "  transparency   dropped after a premultiplied resize\n");
  }
  cli_print(output, "  orientation    %s\n", p->apply_exif ? "turned by EXIF" : "as stored");
  print_resize(output, p);
  if (p->crop_height > 0) {
    cli_print(output, "  centre crop    %s\n", size_text(size, p->crop_height, p->crop_width));
  }
  if (p->do_rescale) cli_print(output, "  rescale        1 / %.9g\n", 1 / p->rescale_factor);
  if (p->do_normalize) {
    print_floats(output, "  mean", p->mean);
    print_floats(output, "  std", p->std);
  }
}

/* Megabytes with one digit, bytes where that would show nothing. */
static void print_bytes(struct cli_output *output, uint64_t n_bytes) {
  if (n_bytes >= 100000) {
    cli_print(output, "%.1f MB", (double)n_bytes / 1e6);
  } else {
    cli_print(output, "%llu bytes", (unsigned long long)n_bytes);
  }
}

static void print_packing(struct cli_output *output, const clipc_packing *packing) {
  cli_print(output, "packed for       %s%s\npacked file      ", packing->kernels,
            packing->repacked ? ", repacked when it is used" : "");
  print_bytes(output, packing->n_bytes);
  cli_print(output, "\n");
  for (size_t i = 0; i < packing->n_sections; i++) {
    const clipc_section *section = &packing->sections[i];
    if (section->n_bytes == 0) continue; /* the name of a file that is not in there */
    cli_print(output, "  %-28s ", section->name);
    print_bytes(output, section->n_bytes);
    cli_print(output, "\n");
  }
}

/* Operations of one embedding; of a text that fills the context. */
static double operations_of(const clipc_model *model, int tower) {
  return clipc_operations(model, tower, clipc_context_length(model));
}

static void print_tower(struct cli_output *output, const clipc_model *model, int tower) {
  clipc_tower_info info;
  bool image = tower == CLIPC_TOWER_IMAGE;
  if (clipc_model_tower(model, tower, &info, NULL) != CLIPC_OK) return;
  cli_print(output, "%s\n  size           %d layers of %d, %d heads, MLP of %d\n", image ? "image tower" : "text tower",
            info.n_layers, info.width, info.n_heads, info.mlp_width);
  if (image) {
    cli_print(output, "  tokens         %d, patches of %d\n", info.n_tokens, info.patch);
  } else {
    cli_print(output, "  tokens         up to %d%s, %zu known\n", info.n_tokens, info.causal ? ", causal" : "",
              clipc_vocabulary_size(model));
  }
  cli_print(output, "  activation     %s\n  pooling        %s%s\n", info.activation, info.pooling,
            info.projection ? ", then projected" : "");
  cli_print(output, "  parameters     %.2f million\n  operations     %.3f x 10^9 %s\n", (double)info.n_parameters / 1e6,
            operations_of(model, tower) / 1e9, image ? "a picture" : "a text of all tokens");
}

static void print_lines(struct cli_output *output, const clipc_model *model, const char *folder,
                        const char *fingerprint) {
  char size[32];
  char *name = cli_clean(folder, strlen(folder));
  cli_print(output, "model            %s\n", name);
  free(name);
  cli_print(output, "library          clipc %s\n", clipc_version());
  cli_print(output, "build            %s\n", clipc_build_info());
  cli_print(output, "kernels          %s, %s\n", clipc_model_kernels(model),
            cli_precision_name(clipc_model_precision(model)));
  cli_print(output, "fingerprint      %s\n", fingerprint);
  if (clipc_model_packing(model) != NULL) print_packing(output, clipc_model_packing(model));
  cli_print(output, "towers           %s\n", towers_of(model));
  cli_print(output, "dimension        %zu\n", clipc_embedding_dimension(model));
  if (clipc_towers(model) & CLIPC_TOWER_IMAGE) {
    cli_print(output, "image size       %s\n", size_text(size, clipc_image_height(model), clipc_image_width(model)));
  }
  if (clipc_towers(model) & CLIPC_TOWER_TEXT) cli_print(output, "context length   %zu\n", clipc_context_length(model));
  cli_print(output, "logit scale      ");
  cli_json_float(output, clipc_logit_scale(model));
  cli_print(output, "\nlogit bias       ");
  cli_json_float(output, clipc_logit_bias(model));
  cli_print(output, "\n");
  print_tower(output, model, CLIPC_TOWER_IMAGE);
  print_tower(output, model, CLIPC_TOWER_TEXT);
  const clipc_preprocessing *preprocessing = clipc_model_preprocessing(model);
  if (preprocessing != NULL) print_preprocessing(output, preprocessing);
}

static void json_preprocessing(struct cli_output *output, const clipc_preprocessing *p) {
  cli_print(output, "{\"reference\":\"%s\",\"alpha\":\"%s\",\"apply_exif\":%s,\"resize\":\"%s\",",
            cli_reference_name(p->reference), cli_alpha_name(p->alpha), p->apply_exif ? "true" : "false",
            resize_names[p->resize]);
  cli_print(output, "\"resize_height\":%d,\"resize_width\":%d,\"filter\":\"%s\",", p->resize_height, p->resize_width,
            filter_names[p->filter]);
  cli_print(output, "\"crop_height\":%d,\"crop_width\":%d,\"fill\":[%d,%d,%d],", p->crop_height, p->crop_width,
            p->fill[0], p->fill[1], p->fill[2]);
  cli_print(output, "\"do_rescale\":%s,\"rescale_factor\":%.17g,\"do_normalize\":%s,\"mean\":",
            p->do_rescale ? "true" : "false", p->rescale_factor, p->do_normalize ? "true" : "false");
  cli_json_floats(output, p->mean, 3);
  cli_print(output, ",\"std\":");
  cli_json_floats(output, p->std, 3);
  cli_print(output, "}");
}

static void json_packing(struct cli_output *output, const clipc_packing *packing) {
  cli_print(output, "{\"kernels\":\"%s\",\"repacked\":%s,\"n_bytes\":%llu,\"sections\":[", packing->kernels,
            packing->repacked ? "true" : "false", (unsigned long long)packing->n_bytes);
  for (size_t i = 0; i < packing->n_sections; i++) {
    const clipc_section *section = &packing->sections[i];
    cli_print(output, "%s{\"name\":", i > 0 ? "," : "");
    cli_json_string(output, section->name, strlen(section->name));
    cli_print(output, ",\"offset\":%llu,\"n_bytes\":%llu}", (unsigned long long)section->offset,
              (unsigned long long)section->n_bytes);
  }
  cli_print(output, "]}");
}

static void json_tower(struct cli_output *output, const clipc_model *model, int tower) {
  clipc_tower_info info;
  if (clipc_model_tower(model, tower, &info, NULL) != CLIPC_OK) {
    cli_print(output, "null");
    return;
  }
  cli_print(output, "{\"width\":%d,\"n_layers\":%d,\"n_heads\":%d,\"mlp_width\":%d,\"layer_norm_eps\":", info.width,
            info.n_layers, info.n_heads, info.mlp_width);
  cli_json_float(output, info.layer_norm_eps);
  cli_print(output, ",\"activation\":\"%s\",\"pooling\":\"%s\",\"projection\":%s,\"n_tokens\":%d,", info.activation,
            info.pooling, info.projection ? "true" : "false", info.n_tokens);
  if (tower == CLIPC_TOWER_IMAGE) {
    cli_print(output, "\"patch\":%d,", info.patch);
  } else {
    cli_print(output, "\"causal\":%s,\"vocabulary_size\":%zu,", info.causal ? "true" : "false",
              clipc_vocabulary_size(model));
  }
  cli_print(output, "\"n_parameters\":%llu,\"n_operations\":%.0f}", (unsigned long long)info.n_parameters,
            operations_of(model, tower));
}

/* The object stays open: its tensors may follow. */
static void print_json(struct cli_output *output, const clipc_model *model, const char *folder,
                       const char *fingerprint) {
  static const char *const towers_json[] = {"", "\"image\"", "\"text\"", "\"image\",\"text\""};
  size_t n = 0;
  const size_t *dimensions = clipc_supported_dimensions(model, &n);
  cli_print(output, "{\"model\":");
  cli_json_string(output, folder, strlen(folder));
  cli_print(output, ",\"version\":\"%s\",\"build\":", clipc_version());
  cli_json_string(output, clipc_build_info(), strlen(clipc_build_info()));
  cli_print(output, ",\"kernels\":\"%s\",\"precision\":\"%s\",\"packing\":", clipc_model_kernels(model),
            cli_precision_name(clipc_model_precision(model)));
  if (clipc_model_packing(model) != NULL) {
    json_packing(output, clipc_model_packing(model));
  } else {
    cli_print(output, "null");
  }
  cli_print(output, ",\"fingerprint\":\"%s\",\"image_tower\":", fingerprint);
  json_tower(output, model, CLIPC_TOWER_IMAGE);
  cli_print(output, ",\"text_tower\":");
  json_tower(output, model, CLIPC_TOWER_TEXT);
  cli_print(output, ",\"towers\":[%s],\"embedding_dimension\":%zu,\"supported_dimensions\":[",
            towers_json[clipc_towers(model) & 3], clipc_embedding_dimension(model));
  for (size_t i = 0; i < n; i++) cli_print(output, "%s%zu", i > 0 ? "," : "", dimensions[i]);
  cli_print(output, "],\"image_height\":%d,\"image_width\":%d,\"context_length\":%zu,\"logit_scale\":",
            clipc_image_height(model), clipc_image_width(model), clipc_context_length(model));
  cli_json_float(output, clipc_logit_scale(model));
  cli_print(output, ",\"logit_bias\":");
  cli_json_float(output, clipc_logit_bias(model));
  cli_print(output, ",\"preprocessing\":");
  if (clipc_model_preprocessing(model) != NULL) {
    json_preprocessing(output, clipc_model_preprocessing(model));
  } else {
    cli_print(output, "null");
  }
}

/* ---- tensors */

struct tensor_writer {
  struct cli_output *output;
  int format;
  size_t n, n_ignored, n_nan;
};

static void json_number(struct cli_output *output, double number) { cli_print(output, "%.9g", number); }

static void json_tensor(struct cli_output *output, const clipc_tensor_info *info, bool first) {
  cli_print(output, "%s\n{\"name\":", first ? "" : ",");
  cli_json_string(output, info->name, strlen(info->name));
  cli_print(output, ",\"type\":\"%s\",\"shape\":[", info->type);
  for (int i = 0; i < info->rank && i < 8; i++) {
    cli_print(output, "%s%llu", i > 0 ? "," : "", (unsigned long long)info->shape[i]);
  }
  cli_print(output, "],\"n_bytes\":%llu,\"used\":%s", (unsigned long long)info->n_bytes, info->used ? "true" : "false");
  if (info->measured) {
    cli_print(output, ",\"min\":");
    json_number(output, info->least);
    cli_print(output, ",\"max\":");
    json_number(output, info->most);
    cli_print(output, ",\"norm\":");
    json_number(output, info->norm);
    cli_print(output, ",\"n_nan\":%llu,\"n_infinite\":%llu", (unsigned long long)info->n_nan,
              (unsigned long long)info->n_infinite);
  }
  cli_print(output, "}");
}

static void print_tensor(struct cli_output *output, const clipc_tensor_info *info) {
  char shape[8 * 21 + 3] = "";
  size_t n = 0;
  for (int i = 0; i < info->rank && i < 8; i++) {
    n += (size_t)snprintf(shape + n, sizeof shape - n, "%s%llu", i > 0 ? "x" : "", (unsigned long long)info->shape[i]);
  }
  char *name = cli_clean(info->name, strlen(info->name));
  cli_print(output, "  %-4s %-16s ", info->type, shape);
  if (info->measured) {
    cli_print(output, "%11.4g %11.4g %11.4g", info->least, info->most, info->norm);
  } else {
    cli_print(output, "%11s %11s %11s", "", "", "");
  }
  cli_print(output, "  %s%s", name, info->used ? "" : "  (not used)");
  if (info->n_nan > 0) cli_print(output, "  (%llu NaN)", (unsigned long long)info->n_nan);
  if (info->n_infinite > 0) cli_print(output, "  (%llu infinite)", (unsigned long long)info->n_infinite);
  cli_print(output, "\n");
  free(name);
}

static int write_tensor(void *context, const clipc_tensor_info *info) {
  struct tensor_writer *writer = context;
  if (writer->format == JSON) {
    json_tensor(writer->output, info, writer->n == 0);
  } else {
    print_tensor(writer->output, info);
  }
  writer->n++;
  writer->n_ignored += !info->used;
  writer->n_nan += info->n_nan + info->n_infinite > 0;
  return !cli_flush(writer->output);
}

struct job {
  struct cli_model_options model;
  int format, tower;
  bool tensors;
};

static bool write_tensors(struct cli_output *output, const struct job *job) {
  int format = job->format;
  struct tensor_writer writer = {.output = output, .format = format};
  clipc_options options = job->model.options;
  options.towers = job->tower;
  clipc_error error = {0};
  if (format == JSON) {
    cli_print(output, ",\"tensors\":[");
  } else {
    cli_print(output, "tensors\n  %-4s %-16s %11s %11s %11s  %s\n", "type", "shape", "least", "most", "norm", "name");
  }
  if (clipc_inspect_tensors(job->model.folder, &options, write_tensor, &writer, &error) != CLIPC_OK) {
    if (error.status != CLIPC_E_CANCELLED) cli_complain("%s", error.message);
    return false;
  }
  if (format == JSON) {
    cli_print(output, "]");
  } else {
    cli_print(output, "  %zu tensors, %zu not used, %zu with numbers that are none\n", writer.n, writer.n_ignored,
              writer.n_nan);
  }
  return true;
}

static int inspect(const struct cli_command *command, const struct job *job) {
  char fingerprint[CLIPC_FINGERPRINT_BYTES];
  clipc_model *model;
  clipc_error error = {0};
  struct cli_output output;
  if (!cli_model_open(&model, command, &job->model, job->tower)) return CLI_FAILED;
  if (job->tensors && clipc_model_packing(model) != NULL) { /* before anything is written */
    cli_complain("%s: is a packed file, and only folders have tensors to list", job->model.folder);
    clipc_model_close(model);
    return CLI_FAILED;
  }
  if (clipc_model_fingerprint(model, fingerprint, &error) != CLIPC_OK) {
    cli_complain("%s", error.message);
    clipc_model_close(model);
    return CLI_FAILED;
  }
  cli_output_open(&output, NULL);
  (job->format == JSON ? print_json : print_lines)(&output, model, job->model.folder, fingerprint);
  clipc_model_close(model);
  bool fine = !job->tensors || write_tensors(&output, job);
  if (job->format == JSON) cli_print(&output, "}\n");
  return cli_output_close(&output, true) && fine ? CLI_OK : CLI_FAILED;
}

static bool own_option(const struct cli_command *command, void *context, int id, const char *value) {
  struct job *job = context;
  if (id == CLI_PLAIN && job->model.folder != NULL) {
    cli_usage_error(command, "inspect takes one model: %s or %s", job->model.folder, value);
    return false;
  }
  switch (id) {
  case TENSORS: job->tensors = true; break;
  case TOWER: return (job->tower = cli_choice(command, "tower", value, towers)) >= 0;
  case FORMAT: return (job->format = cli_choice(command, "format", value, formats)) >= 0;
  default: job->model.folder = cli_hub_model(value); /* there is nothing else that it could be */
  }
  return true;
}

static int run(const struct cli_command *command, int argc, char **argv) {
  struct job job = {0};
  int code = cli_parse(command, argc, argv, &job.model, own_option, &job);
  return code == CLI_PARSED ? inspect(command, &job) : code;
}

const struct cli_command cli_inspect = {
    .name = "inspect",
    .summary = "what a model is and how it prepares pictures",
    .usage = "-m MODEL [--tensors] [--tower image|text] [-f lines|json]",
    .details =
        "The fingerprint is that of the embedding space: vectors may be compared when those of their models are the\n"
        "same up to the colon. It is a hash of the weights' values, of the configuration, of the steps that make\n"
        "pixels and of the tokeniser; a folder's weights are read for it, a packed file has it at hand.\n",
    .examples = "clipc inspect -m models/tiny\n"
                "clipc inspect -m models/tiny --tensors\n"
                "clipc inspect -m models/tiny --reference openai -f json\n",
    .options = own_options,
    .groups = CLI_TAKES_MODEL,
    .run = run,
};

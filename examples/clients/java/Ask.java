// SPDX-License-Identifier: Apache-2.0

import com.google.protobuf.ByteString;
import inference.GRPCInferenceServiceGrpc;
import inference.InferParameter;
import inference.InferTensorContents;
import inference.ModelInferRequest;
import inference.ModelInferResponse;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Metadata;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.MetadataUtils;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.TimeUnit;

/** Asks a quorum server: Ask HOST:PORT TEXT NAMES. README.md says how to build it. */
public final class Ask {
  /** Makes a BYTES tensor. */
  static ModelInferRequest.InferInputTensor text(String name, String... values) {
    InferTensorContents.Builder contents = InferTensorContents.newBuilder();
    for (String value : values) {
      contents.addBytesContents(ByteString.copyFromUtf8(value));
    }
    return ModelInferRequest.InferInputTensor.newBuilder()
        .setName(name).setDatatype("BYTES").addShape(values.length).setContents(contents).build();
  }

  /** Reads a BYTES tensor: a length of 4 bytes, little-endian, before each element. */
  static List<String> elements(ByteBuffer raw) {
    List<String> found = new ArrayList<>();
    while (raw.hasRemaining()) {
      byte[] element = new byte[raw.getInt()];
      raw.get(element);
      found.add(new String(element, StandardCharsets.UTF_8));
    }
    return found;
  }

  public static void main(String[] args) {
    String[] attributes = args[2].split(",");
    ManagedChannel connection = ManagedChannelBuilder.forTarget(args[0]).usePlaintext().build();
    GRPCInferenceServiceGrpc.GRPCInferenceServiceBlockingStub server =
        GRPCInferenceServiceGrpc.newBlockingStub(connection).withDeadlineAfter(6, TimeUnit.SECONDS);
    String key = System.getenv("QUORUM_INFERENCE_KEY");
    if (key != null) {
      Metadata headers = new Metadata();
      headers.put(Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER), "Bearer " + key);
      server = server.withInterceptors(MetadataUtils.newAttachHeadersInterceptor(headers));
    }
    ModelInferRequest request = ModelInferRequest.newBuilder()
        .setModelName("quorum")
        .putParameters("timeout", InferParameter.newBuilder().setInt64Param(5_000_000).build()) // for the members
        .addInputs(text("TEXT", args[1])).addInputs(text("CATEGORY", "")).addInputs(text("ATTRIBUTES", attributes))
        .build();
    ModelInferResponse answer;
    try {
      answer = server.modelInfer(request);
    } catch (StatusRuntimeException error) {
      System.err.println(error.getStatus().getCode() + ": " + error.getStatus().getDescription());
      System.exit(1);
      return;
    }
    Map<String, ByteBuffer> raw = new HashMap<>();
    for (int i = 0; i < answer.getOutputsCount(); i++) {
      raw.put(answer.getOutputs(i).getName(),
          answer.getRawOutputContents(i).asReadOnlyByteBuffer().order(ByteOrder.LITTLE_ENDIAN));
    }
    List<String> values = elements(raw.get("VALUES"));
    List<String> members = elements(raw.get("MEMBERS"));
    List<String> votes = elements(raw.get("MEMBER_VALUES"));
    for (int i = 0; i < attributes.length; i++) {
      float confidence = raw.get("CONFIDENCE").getFloat(4 * i);
      System.out.printf(Locale.ROOT, "%s = %s (%.2f)%n", attributes[i], values.get(i), confidence);
      for (int j = 0; j < members.size(); j++) {
        int at = j * values.size() + i;
        System.out.printf("  %s %d %s%n", members.get(j), raw.get("MEMBER_STATUS").getInt(4 * at), votes.get(at));
      }
    }
    System.out.println("version " + raw.get("WEIGHTS_VERSION").getLong(0));
    connection.shutdown();
  }
}

import com.southernstorm.noise.protocol.*;
import org.moxie.confer.proxy.websocket.NoiseTransportFramer;
import org.moxie.confer.proxy.entities.*;
import confer.NoiseTransport;
import java.util.*;
import java.nio.charset.StandardCharsets;

public class Record {
  static StringBuilder out = new StringBuilder();
  static String hex(byte[] b, int n) { StringBuilder s = new StringBuilder(); for (int i = 0; i < n; i++) s.append(String.format("%02x", b[i])); return s.toString(); }
  static byte[] key(int seed) { byte[] k = new byte[32]; for (int i = 0; i < 32; i++) k[i] = (byte) (seed + i); return k; }
  static void item(String from, String wire, String plain) { item(from, wire, plain, 0); }
  static void item(String from, String wire, String plain, long id) { out.append(String.format("    {\"from\": \"%s\", \"wire\": \"%s\", \"message\": \"%s\", \"chunk_id\": %d},\n", from, wire, plain, id)); }

  static void send(String from, CipherState c, CipherState peer, byte[] message) throws Exception {
    List<byte[]> frames = NoiseTransportFramer.encodeFrames(message);
    int i = 0;
    for (byte[] f : frames) {
      byte[] ct = new byte[f.length + 16];
      int n = c.encryptWithAd(null, f, 0, ct, 0, f.length);
      byte[] back = new byte[n];
      peer.decryptWithAd(null, ct, 0, back, 0, n);
      item(from, hex(ct, n), ++i == frames.size() ? hex(message, message.length) : "", NoiseTransportFramer.decodeFrame(f).getChunkId());
    }
  }

  public static void main(String[] a) throws Exception {
    byte[] rs = key(1), re = key(33), is = key(65), ie = key(97);
    HandshakeState server = new HandshakeState("Noise_XX_25519_AESGCM_SHA256", HandshakeState.RESPONDER);
    server.getLocalKeyPair().setPrivateKey(rs, 0);
    server.getFixedEphemeralKey().setPrivateKey(re, 0);
    server.start();
    HandshakeState client = new HandshakeState("Noise_XX_25519_AESGCM_SHA256", HandshakeState.INITIATOR);
    client.getLocalKeyPair().setPrivateKey(is, 0);
    client.getFixedEphemeralKey().setPrivateKey(ie, 0);
    client.start();
    byte[] pub = new byte[32];
    server.getLocalKeyPair().getPublicKey(pub, 0);
    byte[] report = new byte[1184];
    report[0] = 3; // version; the rest but REPORT_DATA is zero: no hardware made this
    System.arraycopy(pub, 0, report, 0x50, 32);
    String manifest = "{\"imageVersion\":\"0.0.0\"}", bundle = "{\"mediaType\":\"application/vnd.dev.sigstore.bundle.v0.3+json\"}";
    String json = "{\"platform\":\"SEV-SNP\",\"attestation\":\"" + Base64.getEncoder().encodeToString(report) + "\",\"manifest\":\"" + manifest.replace("\"", "\\\"") + "\",\"manifestBundle\":\"" + bundle.replace("\"", "\\\"") + "\"}";
    byte[] buf = new byte[65535], got = new byte[65535];
    out.append("{\n  \"client_static\": \"" + hex(is, 32) + "\", \"client_ephemeral\": \"" + hex(ie, 32) + "\",\n  \"server_public\": \"" + hex(pub, 32) + "\",\n  \"frames\": [\n");
    int n = client.writeMessage(buf, 0, null, 0, 0);
    item("client", hex(buf, n), "");
    server.readMessage(buf, 0, n, new byte[0], 0);
    byte[] p = json.getBytes(StandardCharsets.UTF_8);
    n = server.writeMessage(buf, 0, p, 0, p.length);
    item("server", hex(buf, n), hex(p, p.length));
    client.readMessage(buf, 0, n, got, 0);
    n = client.writeMessage(buf, 0, null, 0, 0);
    item("client", hex(buf, n), "");
    server.readMessage(buf, 0, n, new byte[0], 0);
    CipherStatePair cp = client.split(), sp = server.split();

    NoiseTransport.WebsocketRequest ping = NoiseTransport.WebsocketRequest.newBuilder().setId(1).setVerb("GET").setPath("/ping").build();
    send("client", cp.getSender(), sp.getReceiver(), ping.toByteArray());
    send("server", sp.getSender(), cp.getReceiver(), new WebsocketResponse(1, 200, "PONG").toProtobuf().toByteArray());
    NoiseTransport.WebsocketRequest chat = NoiseTransport.WebsocketRequest.newBuilder().setId(-2).setVerb("POST").setPath("/v1/vllm/chat/completions")
      .setBody(com.google.protobuf.ByteString.copyFromUtf8("{\"messages\":[{\"role\":\"user\",\"content\":\"h\u00e9llo\"}],\"stream\":true}")).build();
    send("client", cp.getSender(), sp.getReceiver(), chat.toByteArray());
    for (String s : new String[] {"{\"type\":\"token\",\"content\":\"In the\"}", "{\"type\":\"token\",\"content\":\" beginning\"}", "{\"type\":\"completion\",\"context_tokens\":12,\"max_context_tokens\":4096}"}) {
      byte[] b = s.getBytes(StandardCharsets.UTF_8);
      send("server", sp.getSender(), cp.getReceiver(), new WebsocketResponse(-2, 200, b, 0, b.length, Map.of("content-type", "application/json")).toProtobuf().toByteArray());
    }
    // A request in three pieces and an answer in two frames.
    for (int i = 0; i < 3; i++) {
      NoiseTransport.WebsocketRequest.Builder r = NoiseTransport.WebsocketRequest.newBuilder().setId(3);
      if (i == 0) r.setVerb("POST").setPath("/v1/document/extract").setBody(com.google.protobuf.ByteString.copyFromUtf8("{}"));
      r.setChunk(NoiseTransport.StreamChunk.newBuilder().setData(com.google.protobuf.ByteString.copyFrom(key(i))).setFinal(i == 2).setSeq(i));
      send("client", cp.getSender(), sp.getReceiver(), r.build().toByteArray());
    }
    byte[] large = new byte[65489 + 100 - 20];
    for (int i = 0; i < large.length; i++) large[i] = (byte) (i % 251);
    send("server", sp.getSender(), cp.getReceiver(), new WebsocketResponse(3, 200, large, 0, large.length, Map.of()).toProtobuf().toByteArray());
    send("server", sp.getSender(), cp.getReceiver(), new WebsocketResponse(4, 404, "Route not found").toProtobuf().toByteArray());
    out.setLength(out.length() - 2);
    out.append("\n  ]\n}\n");
    System.out.print(out);
  }
}

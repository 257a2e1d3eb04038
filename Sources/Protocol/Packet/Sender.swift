/// Which side of a connection wrote a packet: several rules hold for one side only.
public enum Sender: Sendable, Hashable {
    case client
    case server
}

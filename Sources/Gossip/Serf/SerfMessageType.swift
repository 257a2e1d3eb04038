/// The first byte of Serf's messages (WIRE.md section 7).
enum SerfMessageType: UInt8, Sendable {
    case leave = 0
    case join = 1
    case pushPull = 2
    case userEvent = 3
    case query = 4
    case queryResponse = 5
    case keyRequest = 7
    case keyResponse = 8
}

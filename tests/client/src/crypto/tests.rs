use super::*;

fn bytes<const N: usize>(hex: &str) -> [u8; N] {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    assert_eq!(digits.len(), 2 * N, "{hex}");
    let text = String::from_utf8(digits).unwrap();
    std::array::from_fn(|index| u8::from_str_radix(&text[2 * index..2 * index + 2], 16).unwrap())
}

/// RFC 2759 9.2 and RFC 3079 3.5.3: user `User`, password `clientPass`.
fn rfc_user() -> MsChapV2 {
    MsChapV2::respond(
        b"User",
        "clientPass",
        &bytes("5B5D7C7D7B3F2F3E 3C2C602132262628"),
        &bytes("21402324255E262A 28295F2B3A337C7E"),
    )
}

#[test]
fn the_password_hash_is_that_of_rfc_2759() {
    let hash = nt_password_hash("clientPass");
    assert_eq!(hash, bytes("44EBBA8D5312B8D6 11474411F56989AE"));
    let hash_hash: [u8; 16] = Md4::digest(hash).into();
    assert_eq!(hash_hash, bytes("41C00C584BD2D91C 4017A2A12FA59F3F"));
}

#[test]
fn the_challenge_hash_is_that_of_rfc_2759_and_ignores_the_domain() {
    let peer = bytes("21402324255E262A 28295F2B3A337C7E");
    let authenticator = bytes("5B5D7C7D7B3F2F3E 3C2C602132262628");
    assert_eq!(challenge_hash(&peer, &authenticator, b"User"), bytes("D02E4386BCE91226"));
    assert_eq!(challenge_hash(&peer, &authenticator, b"CORP\\User"), bytes("D02E4386BCE91226"));
    assert_ne!(challenge_hash(&peer, &authenticator, b"user"), bytes("D02E4386BCE91226"));
}

#[test]
fn the_responses_are_those_of_rfc_2759() {
    let exchange = rfc_user();
    assert_eq!(exchange.nt_response, bytes("82309ECD8D708B5E A08FAA3981CD8354 4233114A3D85D6DF"));
    assert_eq!(exchange.authenticator_response, "S=407A5589115FD0D6209F510FE9C04566932CDA56");
}

#[test]
fn des_keys_are_parity_corrected_as_in_rfc_2759_9_3() {
    let hash = nt_password_hash("MyPw");
    assert_eq!(hash, bytes("FC156AF7EDCD6C0E DDE3337D427F4EAC"));
    assert_eq!(des_key(&bytes("FC156AF7EDCD6C")), bytes("FD0B5B5E7F6E34D9"));
    assert_eq!(des_key(&bytes("0EDDE3337D427F")), bytes("0E6E796737EA08FE"));
    assert_eq!(des_key(&bytes("4EAC0000000000")), bytes("4F57010101010101"));
}

#[test]
fn the_master_and_start_keys_are_those_of_rfc_3079() {
    let exchange = rfc_user();
    let hash_hash = bytes("41C00C584BD2D91C 4017A2A12FA59F3F");
    assert_eq!(master_key(&hash_hash, &exchange.nt_response), bytes("FDECE3717A8C838C B388E527AE3CDD31"));
    assert_eq!(exchange.send_key, bytes("D5F0E9521E3EA958 9645E86051C82226"));
    // RFC 3079 3.5.1 to 3.5.3 derive the server's send key; the 40 and 56 bit keys are its first eight bytes.
    assert_eq!(exchange.receive_key, bytes("8B7CDC149B993A1B A118CB153F56DCCB"));
    assert_eq!(exchange.receive_key[..8], bytes::<8>("8B7CDC149B993A1B"));
}

#[test]
fn a_real_client_and_server_agreed_on_the_same_exchange() {
    let exchange = MsChapV2::respond(
        b"vpnuser",
        "vpnpass",
        &bytes("ad690e2042c7a584daafe2ff92716ddb"),
        &bytes("bf9c6c85d7e2e810e9211a19b93567c3"),
    );
    assert_eq!(exchange.nt_response, bytes("3d46f21fc81f1ff15f2f9a052d5b60a74d83c4e90197b5be"));
    assert_eq!(exchange.authenticator_response, "S=EB02F265702903DEE46362B0562B927CD2C2E757");
    assert_eq!(exchange.send_key, bytes("649468d79073b72ef7d610ed0cb6f8a6"));
    assert_eq!(exchange.receive_key, bytes("c44469e4d9e0444187cb3b8eb725a634"));
}

fn call_connected(hash: BindingHash, nonce: [u8; 32], certificate: [u8; 32]) -> [u8; 112] {
    let mut message = [0; 112];
    // Call Connected, one attribute: crypto binding, HashProto.
    message[..16].copy_from_slice(&bytes::<16>("10010070 00040001 00030068 00000000"));
    message[15] = hash as u8;
    message[16..48].copy_from_slice(&nonce);
    message[48..80].copy_from_slice(&certificate);
    message
}

const CERTIFICATE: &[u8] = b"sstp-wire reference certificate";

/// Vectors C to H: nonce 40..5F, the reference certificate.
fn reference(hash: BindingHash, hlak: &Hlak) -> (Vec<u8>, [u8; 32]) {
    let nonce = std::array::from_fn(|index| 0x40 + index as u8);
    let message = call_connected(hash, nonce, certificate_hash(hash, CERTIFICATE));
    (compound_mac_key(hash, hlak), compound_mac(hash, hlak, &message))
}

fn short(mac: &str) -> [u8; 32] {
    padded(&bytes::<20>(mac))
}

#[test]
fn vector_a_sha_256_of_the_specification() {
    let hlak = Hlak(bytes("2A1BB40D55AB0F5EF32F06F2B3CC73C48FD3FAC41D7A1315A19228D9024CA164"));
    let message = call_connected(
        BindingHash::Sha256,
        bytes("412B489AEBD7ECC7D08966F26BE7CD72B231A0E9210D7C91B308862B0344C435"),
        bytes("7993EF314C493DACE9F02D60E7E61C84B6690AAFE9D7AEEA92CBBE8AD599422D"),
    );
    assert_eq!(
        compound_mac_key(BindingHash::Sha256, &hlak),
        bytes::<32>("ECF59AC9FE155CF0A9E7D66ADC1B363C1AD7BA91A9217F0CEC2A534298828DF6")
    );
    assert_eq!(
        compound_mac(BindingHash::Sha256, &hlak, &message),
        bytes("52A68EFD8CFFBF52770B8F0FE8EC73716583AF6D611EB6D179B3B20840985449")
    );
}

#[test]
fn vector_b_sha_1_of_the_specification() {
    let hlak = Hlak(bytes("4B3128F43925D9006EEFB1C4E86515A1D88E56BAB3CA2BDF0373B7F5A8A13B19"));
    let message = call_connected(
        BindingHash::Sha1,
        bytes("0F1A2D58D4A3E3000FAD3CE4906E07B707AA9E441CCEAC5CBD7B2CC1C9D86CDF"),
        short("5826B629BDA59B8E6FD8DCD2622FD34C534805A5"),
    );
    assert_eq!(compound_mac_key(BindingHash::Sha1, &hlak), bytes::<20>("A98B862A38CC7E224B42CD128586ACB22F0BD1E9"));
    assert_eq!(compound_mac(BindingHash::Sha1, &hlak, &message), short("69915DD583D8062FEF16F61DB2F03290EC27CB6C"));
}

#[test]
fn vector_c_sha_256_with_the_keys_of_ms_chap_v2() {
    let hlak = rfc_user().hlak();
    assert!(hlak == Hlak(bytes("D5F0E9521E3EA9589645E86051C822268B7CDC149B993A1BA118CB153F56DCCB")));
    let (key, mac) = reference(BindingHash::Sha256, &hlak);
    assert_eq!(key, bytes::<32>("150707E682B16F4CA9430560C562894AFD10050DB4182D35C3E9E06284445271"));
    assert_eq!(mac, bytes("C4E459E3DC958464F772F9CA6941631B060675EF04893D1D0999D7539AEBFE7C"));
}

#[test]
fn vector_d_sha_256_with_the_zero_key() {
    let (key, mac) = reference(BindingHash::Sha256, &Hlak::ZERO);
    assert_eq!(key, bytes::<32>("D342EB00477D6A37E1A184FB0168CB3EA3B6645FA0F227904D20EEF5CB8F9327"));
    assert_eq!(mac, bytes("2835000E51F4EB7777CDCF315CF46199667D380C4D2D0F1D7EE59457AA31EF51"));
}

#[test]
fn vector_e_sha_256_with_an_msk() {
    let (key, mac) = reference(BindingHash::Sha256, &Hlak(std::array::from_fn(|index| index as u8)));
    assert_eq!(key, bytes::<32>("AAEE39E308B6005ED24C39714CE67029FCD75BF8C340459A657116FD1EBDEB00"));
    assert_eq!(mac, bytes("DD7EF459BA9673A2C01DEAABD3907E6DBD7AAD78A4A80765DF33DC857C71263E"));
}

#[test]
fn vectors_f_g_and_h_sha_1() {
    let (key, mac) = reference(BindingHash::Sha1, &rfc_user().hlak());
    assert_eq!(key, bytes::<20>("3AFBFF0BA79DD9743BD09949FA99F9D0C92D3698"));
    assert_eq!(mac, short("D5986A515048BDF7EEF9B1C670843E8A5EBF8176"));
    let (key, mac) = reference(BindingHash::Sha1, &Hlak::ZERO);
    assert_eq!(key, bytes::<20>("AE571EDE1E11EFB7BB85B8B4F07E15F0E086761A"));
    assert_eq!(mac, short("079A92B292DE17D33E0ADAE8DA804067FED734B9"));
    let (key, mac) = reference(BindingHash::Sha1, &Hlak(std::array::from_fn(|index| index as u8)));
    assert_eq!(key, bytes::<20>("548BB05084F0861BC4B774BADF8213BCA420B341"));
    assert_eq!(mac, short("DC7D9F54D2B7A546126412DE90D32F1B2F5B3CB2"));
}

#[test]
fn the_bindings_of_a_real_client_are_reproduced() {
    let certificate = bytes("d5dc79d72a752807be8b15833ba3350c4f1c95d249e2c185a6cf911221443b98");
    let seen = [
        // MS-CHAPv2
        (
            Hlak::from_keys(&bytes("649468d79073b72ef7d610ed0cb6f8a6"), &bytes("c44469e4d9e0444187cb3b8eb725a634")),
            bytes("f72ec112b0be6b687027c80e6d99a75a9046dc50017c7ef6f3a40e1d6d5891d4"),
            bytes("8b760acf7703b9a8391159660748adbf5e6296021bc2a6ca5190a39d9ab4c198"),
        ),
        // PAP
        (
            Hlak::ZERO,
            bytes("fc72a1dacf5e6601ff5cc834c1c87e7cd11076fe395fff55d14c96d1967fc97e"),
            bytes("db80ce4901edbbec70fd1d9df400e2c51608c842e52d7576a1697a5e68fe14f5"),
        ),
        // EAP-MSCHAPv2
        (
            Hlak::from_keys(&bytes("527abc4b648d0e624b993e02dd3a4918"), &bytes("ab9e83b6d9dbd680d11fd3ce1c1f0826")),
            bytes("354d4ccaff4a6d15bcf669e6427cc7c872164662b2820e79ca8583e104cbf6d8"),
            bytes("a79036e114974d716189e8c16fe9aaeef5c49413e4b6762e3f299918ed6f011b"),
        ),
    ];
    for (hlak, nonce, mac) in seen {
        let message = call_connected(BindingHash::Sha256, nonce, certificate);
        assert_eq!(compound_mac(BindingHash::Sha256, &hlak, &message), mac);
    }
}
